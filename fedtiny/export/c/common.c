#define CALLER UINT32_MAX
#define NONE (UINT32_MAX - 1)
enum { CONVOLVE, ADD, MAX_POOL, MEAN_POOL };
enum { EVERY, BITS, GAPS, NIBBLES };

/* @tables */

/* The weights of a layer that are there, one after the other. `place` is that of the next one in the flat
   (outputs, inputs / groups, kernel, kernel) weight. */
struct taps {
    const uint8_t *codes;
    const WEIGHT_ *weights;
    uint32_t place, left, nibble;
};

static void next(struct taps *t, uint8_t coding)
{
    if (t->left-- == 0) {
        t->left = 0;
        t->place = UINT32_MAX;
        return;
    }
    t->place++;
    if (coding == GAPS) {
        while (*t->codes == 255) {
            t->place += 255;
            t->codes++;
        }
        t->place += *t->codes++;
    } else if (coding == NIBBLES) {
        uint32_t gap;
        do {
            gap = t->codes[t->nibble >> 1] >> (t->nibble & 1) * 4 & 15;
            t->place += gap;
            t->nibble++;
        } while (gap == 15);
    } else if (coding == BITS) {
        while (!(t->codes[t->place >> 3] >> (t->place & 7) & 1))
            t->place++;
    }
}

/* The places of the output, from `from` to before `to`, at which a tap meets a pixel. */
struct reach {
    int from, to;
};

/* For each row, or column, of the kernel. */
static void reach(const struct step *s, int size, int out_size, struct reach *found)
{
    int k;
    for (k = 0; k < s->kernel; k++) {
        int ahead = k - s->padding;
        found[k].from = ahead < 0 ? (s->stride - 1 - ahead) / s->stride : 0;
        found[k].to = ahead < size ? (size - 1 - ahead) / s->stride + 1 : 0;
        if (found[k].to > out_size)
            found[k].to = out_size;
    }
}

/* Writes behind what it has read: y may be x. */
static void max_pool(const struct step *s, const VALUE_ *x, VALUE_ *y)
{
    int c, row, column, i, j;
    for (c = 0; c < s->channels; c++, x += s->height * s->width)
        for (row = 0; row < s->out_height; row++)
            for (column = 0; column < s->out_width; column++) {
                VALUE_ most = LEAST_;
                for (i = row * s->stride; i < row * s->stride + s->kernel && i < s->height; i++)
                    for (j = column * s->stride; j < column * s->stride + s->kernel && j < s->width; j++)
                        if (x[i * s->width + j] > most)
                            most = x[i * s->width + j];
                *y++ = most;
            }
}
