int NAME_predict(const float *image)
{
    static float logits[CLASSES];
    int best = 0, i;
    NAME_logits(image, logits);
    for (i = 1; i < CLASSES; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}
