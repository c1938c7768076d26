#include <float.h>
#include <stdint.h>

/* What is computed in one go. Offsets count floats in the arena; CALLER is the picture or the logits. */
struct step {
    uint32_t x, also, y, sums;
    uint32_t kept, codes; /* how many weights, and in how many bytes their places are told */
    float low, high;
    uint16_t channels, height, width, out_channels, out_height, out_width, groups;
    uint8_t kind, coding, kernel, stride, padding;
};

/* @common */

/* Adds what one tap makes of a plane. */
static void tap(const struct step *s, const float *x, int up, struct reach rows, int left, struct reach columns,
                float weight, float *sums)
{
    int stride = s->stride, y = rows.from, y_end = rows.to, n = columns.to - columns.from, i;
    if (n <= 0)
        return;
    if (stride == 1 && n == s->width && n == s->out_width && y < y_end) {
        n *= y_end - y; /* whole rows, one behind the other */
        y_end = y + 1;
    }
    for (; y < y_end; y++) {
        const float *in = x + (y * stride + up) * s->width + columns.from * stride + left;
        float *out = sums + y * s->out_width + columns.from;
        if (stride == 1)
            for (i = 0; i < n; i++)
                out[i] += weight * in[i];
        else
            for (i = 0; i < n; i++)
                out[i] += weight * in[i * stride];
    }
}

static float clipped(const struct step *s, float value)
{
    return value < s->low ? s->low : value > s->high ? s->high : value;
}

static void convolve(const struct step *s, const float **weights, const uint8_t **codes, const float **bias,
                     const float *x, const float *also, float *y, float *sums)
{
    uint32_t area = (uint32_t)s->kernel * s->kernel, per_group = s->channels / s->groups;
    uint32_t fan = per_group * area, out_per_group = s->out_channels / s->groups, c;
    int n = s->out_height * s->out_width, i;
    struct reach rows[KERNEL], columns[KERNEL];
    struct taps t;
    reach(s, s->height, s->out_height, rows);
    reach(s, s->width, s->out_width, columns);
    t.codes = *codes;
    t.weights = *weights;
    t.place = UINT32_MAX; /* before the first */
    t.nibble = 0;
    t.left = s->kept;
    next(&t, s->coding);
    for (c = 0; c < s->out_channels; c++) {
        const float *group = x + c / out_per_group * per_group * s->height * s->width;
        float *out = y + c * (uint32_t)n, *to = x == y ? sums : out;
        for (i = 0; i < n; i++)
            to[i] = **bias + (also ? also[c * (uint32_t)n + (uint32_t)i] : 0.0f);
        while (t.place < (c + 1) * fan) {
            uint32_t at = t.place - c * fan, k = at % area, ky = k / s->kernel, kx = k % s->kernel;
            tap(s, group + at / area * s->height * s->width, (int)ky - s->padding, rows[ky], (int)kx - s->padding,
                columns[kx], *t.weights++, to);
            next(&t, s->coding);
        }
        for (i = 0; i < n; i++)
            out[i] = clipped(s, to[i]);
        (*bias)++;
    }
    *weights += s->kept;
    *codes += s->codes;
}

static void add(const struct step *s, const float *x, const float *also, float *y)
{
    int n = s->out_channels * s->out_height * s->out_width, i;
    for (i = 0; i < n; i++)
        y[i] = clipped(s, x[i] + (also ? also[i] : 0.0f));
}

static void mean_pool(const struct step *s, const float *x, float *y)
{
    int n = s->height * s->width, c, i;
    for (c = 0; c < s->channels; c++) {
        float sum = 0.0f;
        for (i = 0; i < n; i++)
            sum += *x++;
        *y++ = sum / (float)n;
    }
}

void NAME_logits(const float *image, float *logits)
{
    const float *weight = weights, *shift = bias;
    const uint8_t *code = codes;
    unsigned i;
    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        const struct step *s = &steps[i];
        const float *x = s->x == CALLER ? image : arena + s->x;
        const float *also = s->also == NONE ? 0 : s->also == CALLER ? image : arena + s->also;
        float *y = s->y == CALLER ? logits : arena + s->y;
        switch (s->kind) {
        case CONVOLVE: convolve(s, &weight, &code, &shift, x, also, y, arena + s->sums); break;
        case ADD: add(s, x, also, y); break;
        case MAX_POOL: max_pool(s, x, y); break;
        default: mean_pool(s, x, y);
        }
    }
}
