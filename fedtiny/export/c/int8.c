#include <stdint.h>

/* What is computed in one go. Offsets count bytes in the arena. A byte q of a tensor stands for scale * (q - zero). */
struct step {
    uint32_t x, also, y, sums;
    uint32_t kept, codes; /* how many weights, and in how many bytes their places are told */
    int32_t x_factor, also_factor; /* times 65536: quanta of the output for one of the input */
    uint16_t channels, height, width, out_channels, out_height, out_width, groups, rows;
    uint8_t kind, coding, kernel, stride, padding, shift, bias_shift;
    uint8_t x_zero, also_zero, y_zero, low, high;
};

/* @common */

/* Adds what one tap makes of a plane, in rows from `first` to before `end`, of which `sums` holds the first. */
static void tap(const struct step *s, const uint8_t *x, int up, struct reach rows, int left, struct reach columns,
                int weight, int32_t *sums, int first, int end)
{
    int stride = s->stride, zero = s->x_zero, n = columns.to - columns.from, i;
    int y = rows.from < first ? first : rows.from, y_end = rows.to > end ? end : rows.to;
    if (n <= 0)
        return;
    if (stride == 1 && n == s->width && n == s->out_width && y < y_end) {
        n *= y_end - y; /* whole rows, one behind the other */
        y_end = y + 1;
    }
    for (; y < y_end; y++) {
        const uint8_t *in = x + (y * stride + up) * s->width + columns.from * stride + left;
        int32_t *out = sums + (y - first) * s->out_width + columns.from;
        if (stride == 1)
            for (i = 0; i < n; i++)
                out[i] += weight * (in[i] - zero);
        else
            for (i = 0; i < n; i++)
                out[i] += weight * (in[i * stride] - zero);
    }
}

/* Quanta times 65536 as a byte: rounded, clipped. */
static uint8_t byte(const struct step *s, int64_t value)
{
    value = ((value + 32768) >> 16) + s->y_zero;
    return (uint8_t)(value < s->low ? s->low : value > s->high ? s->high : value);
}

static void convolve(const struct step *s, const int8_t **weights, const uint8_t **codes, const int16_t **bias,
                     const uint16_t **factors, const uint8_t *x, const uint8_t *also, uint8_t *y, float *logits,
                     int32_t *sums)
{
    uint32_t area = (uint32_t)s->kernel * s->kernel, per_group = s->channels / s->groups;
    uint32_t fan = per_group * area, out_per_group = s->out_channels / s->groups, c;
    int first, end, i, n;
    int64_t shift;
    struct reach rows[KERNEL], columns[KERNEL];
    struct taps t, begin;
    reach(s, s->height, s->out_height, rows);
    reach(s, s->width, s->out_width, columns);
    t.codes = *codes;
    t.weights = *weights;
    t.place = UINT32_MAX; /* before the first */
    t.nibble = 0;
    t.left = s->kept;
    next(&t, s->coding);
    for (c = 0; c < s->out_channels; c++) {
        const uint8_t *group = x + c / out_per_group * per_group * s->height * s->width;
        begin = t;
        for (first = 0; first < s->out_height; first = end) {
            end = first + s->rows < s->out_height ? first + s->rows : s->out_height;
            n = (end - first) * s->out_width;
            t = begin;
            for (i = 0; i < n; i++)
                sums[i] = 0;
            while (t.place < (c + 1) * fan) {
                uint32_t at = t.place - c * fan, k = at % area, ky = k / s->kernel, kx = k % s->kernel;
                tap(s, group + at / area * s->height * s->width, (int)ky - s->padding, rows[ky],
                    (int)kx - s->padding, columns[kx], *t.weights++, sums, first, end);
                next(&t, s->coding);
            }
            if (logits) {
                *logits++ = (float)*sums * logit_scales[c] + logit_bias[c];
                continue;
            }
            shift = (*bias)[c] * ((int64_t)1 << s->bias_shift);
            for (i = 0; i < n; i++) {
                int64_t value = (((int64_t)sums[i] * (*factors)[c]) >> s->shift) + shift;
                if (also)
                    value += (int64_t)(*also++ - s->also_zero) * s->also_factor;
                *y++ = byte(s, value);
            }
        }
    }
    *weights += s->kept;
    *codes += s->codes;
    if (!logits) {
        *bias += s->out_channels;
        *factors += s->out_channels;
    }
}

static void add(const struct step *s, const uint8_t *x, const uint8_t *also, uint8_t *y)
{
    int n = s->out_channels * s->out_height * s->out_width, i;
    for (i = 0; i < n; i++) {
        int64_t value = (int64_t)(x[i] - s->x_zero) * s->x_factor;
        if (also)
            value += (int64_t)(also[i] - s->also_zero) * s->also_factor;
        y[i] = byte(s, value);
    }
}

static void mean_pool(const struct step *s, const uint8_t *x, uint8_t *y)
{
    int n = s->height * s->width, c, i;
    for (c = 0; c < s->channels; c++) {
        int32_t sum = 0;
        for (i = 0; i < n; i++)
            sum += *x++ - s->x_zero;
        *y++ = byte(s, ((int64_t)sum * s->x_factor) >> s->shift);
    }
}

void NAME_logits(const float *image, float *logits)
{
    uint8_t *bytes = (uint8_t *)arena;
    const int8_t *weight = weights;
    const uint8_t *code = codes;
    const int16_t *shift = bias;
    const uint16_t *factor = factors;
    unsigned i;
    for (i = 0; i < PIXELS; i++) {
        float value = image[i] * IMAGE_FACTOR + (IMAGE_ZERO + 0.5f);
        bytes[IMAGE + i] = value > 0.0f ? (uint8_t)(value < 255.0f ? value : 255.0f) : 0;
    }
    for (i = 0; i < sizeof steps / sizeof *steps; i++) {
        const struct step *s = &steps[i];
        const uint8_t *x = bytes + s->x, *also = s->also == NONE ? 0 : bytes + s->also;
        uint8_t *y = s->y == CALLER ? 0 : bytes + s->y;
        switch (s->kind) {
        case CONVOLVE: convolve(s, &weight, &code, &shift, &factor, x, also, y, y ? 0 : logits, arena + s->sums / 4); break;
        case ADD: add(s, x, also, y); break;
        case MAX_POOL: max_pool(s, x, y); break;
        default: mean_pool(s, x, y);
        }
    }
}
