/* Bea-Mish, f(x) = x tanh(beta softplus(alpha x)), and its gradients: one pass over memory, branch-free, so that compilers vectorise it.

   With q = exp(-|u|), u = alpha x:  softplus(u) = max(u, 0) + log1p(q);  S = exp(-2 beta softplus(u));  tanh = (1 - S) / (1 + S), where
   1 - S is -expm1, so that no digit is lost on the left. fma gives the rounding error of alpha x, which exp() would magnify. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__x86_64__) && defined(__linux__)
#define EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EVERY_CPU
#endif
#define INLINE static inline __attribute__((always_inline))

enum { RUN = 4096 }; /* numbers summed in float before they go to a double */

INLINE float power_of_two(float n) { /* n whole, -126 <= n <= 127 */
    int32_t bits = ((int32_t)n + 127) << 23;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* z = n ln 2 + r for -200 < z <= 0; returns r, |r| <= 0.35 */
INLINE float reduced(float z, float low, float *n) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to a whole number */
    *n = (z * 1.44269504f + magic) - magic;
    return fmaf(*n, 1.42860677e-6f, fmaf(*n, -0.693148613f, z)) + low;
}

INLINE float expm1_near_zero(float r) { /* Taylor polynomial, relative error below 2^-26 for |r| <= 0.35 */
    float p = fmaf(r, 1.0f / 5040, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    return fmaf(p * r, r, r);
}

/* e^z = 2^n (1 + m): 2^n in two factors, so that results below the smallest normal number are rounded, not lost */
INLINE float scaled(float v, float n) {
    float half = (n * 0.5f + 12582912.0f) - 12582912.0f;
    return v * power_of_two(half) * power_of_two(n - half);
}

/* Far out, exp(-|u|) on the left and S on the right would have too few digits: they are kept 2^32 times too large there, and results that
   are proportional to them come down again at the end. */
typedef struct {
    float softplus, sigmoid, s, open; /* open = 1 - S */
    float left, right;                /* 2^-32 where softplus, sigmoid and open (left) or s (right) are too large, else 1 */
} Parts;

INLINE Parts parts(float x, float alpha, float beta) {
    Parts p;
    float u = alpha * x, low = fmaf(alpha, x, -u), n, r, m, q;
    float size = fabsf(u);
    size = size < 150.0f ? size : 150.0f;
    low = size < 150.0f ? low : 0.0f;
    r = reduced(-size, u > 0 ? -low : low, &n);
    p.left = u < -60.0f ? 0x1p-32f : 1.0f;
    q = scaled(1.0f + expm1_near_zero(r), u < -60.0f ? n + 32.0f : n);
    /* log1p(q) = 2 artanh(t), t = q / (2 + q) <= 1/3; the polynomial in t^2 is a Chebyshev fit, relative error below 1e-9 */
    const float t = q / (2.0f + q), t2 = t * t;
    float series = fmaf(t2, 0.11619525f, 0.10851658f);
    series = fmaf(series, t2, 0.14296292f);
    series = fmaf(series, t2, 0.19999851f);
    series = fmaf(series, t2, 0.33333334f);
    p.softplus = (u > 0 ? u : 0.0f) + 2.0f * fmaf(series * t2, t, t);
    p.sigmoid = (u > 0 ? 1.0f : q) / (1.0f + q);
    float z = 2.0f * beta * p.softplus;
    r = reduced(z < 150.0f ? -z : -150.0f, 0.0f, &n);
    m = expm1_near_zero(r);
    p.right = z > 60.0f ? 0x1p-32f : 1.0f;
    p.s = scaled(1.0f + m, z > 60.0f ? n + 32.0f : n);
    float whole = power_of_two(n > -120.0f ? n : -120.0f);
    p.open = (1.0f - whole) - m * whole;
    return p;
}

INLINE float value(float x, float alpha, float beta) {
    Parts p = parts(x, alpha, beta);
    return x * p.open / (2.0f - (p.left < 1.0f ? 0.0f : p.open)) * p.left;
}

/* df/dx; *da = df/dalpha, *db = df/dbeta */
INLINE float slopes(float x, float alpha, float beta, float *da, float *db) {
    Parts p = parts(x, alpha, beta);
    float inverse = 1.0f / (2.0f - (p.left < 1.0f ? 0.0f : p.open)), down = p.left * p.right;
    float shut = x * (4.0f * p.s * inverse * inverse); /* x (1 - tanh^2) */
    float through = beta * p.sigmoid * shut;
    *da = x * through * down;
    *db = p.softplus * shut * down;
    return fmaf(alpha * through, p.right, p.open * inverse) * p.left;
}

/* Fresh memory of many megabytes is handed over page by page as it is first written: ask for large pages. */
INLINE void prepare(float *to, int64_t count) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = 1 << 21, start = ((uintptr_t)to + page - 1) & ~(page - 1), end = (uintptr_t)(to + count) & ~(page - 1);
    if (count >= 1 << 20 && end > start) madvise((void *)start, end - start, MADV_HUGEPAGE);
#else
    (void)to, (void)count;
#endif
}

/* Memory is [outer, channels, inner]; alpha and beta are [channels]. */

EVERY_CPU void gleanet_beamish(const float *restrict x, float *restrict y, const float *restrict alpha, const float *restrict beta, int64_t outer, int64_t channels, int64_t inner) {
    prepare(y, outer * channels * inner);
    for (int64_t o = 0; o < outer; o++) {
        if (inner == 1) {
            for (int64_t c = 0; c < channels; c++) y[c] = value(x[c], alpha[c], beta[c]);
        } else {
            for (int64_t c = 0; c < channels; c++) {
                const float a = alpha[c], b = beta[c], *from = x + c * inner;
                float *to = y + c * inner;
                for (int64_t i = 0; i < inner; i++) to[i] = value(from[i], a, b);
            }
        }
        x += channels * inner;
        y += channels * inner;
    }
}

/* With alpha and beta fixed. */
EVERY_CPU void gleanet_beamish_grad_x(const float *restrict x, const float *restrict g, float *restrict gx, float alpha, float beta,
                                      int64_t count) {
    prepare(gx, count);
    for (int64_t i = 0; i < count; i++) {
        float da, db;
        gx[i] = g[i] * slopes(x[i], alpha, beta, &da, &db);
    }
}

/* ga and gb [channels] are added to. */
EVERY_CPU void gleanet_beamish_grads(const float *restrict x, const float *restrict g, float *restrict gx, double *restrict ga, double *restrict gb, const float *restrict alpha, const float *restrict beta,
                                     int64_t outer, int64_t channels, int64_t inner) {
    prepare(gx, outer * channels * inner);
    for (int64_t o = 0; o < outer; o++) {
        if (inner == 1) {
            for (int64_t c = 0; c < channels; c++) {
                float da, db;
                gx[c] = g[c] * slopes(x[c], alpha[c], beta[c], &da, &db);
                ga[c] += (double)(g[c] * da);
                gb[c] += (double)(g[c] * db);
            }
        } else {
            for (int64_t c = 0; c < channels; c++) {
                const float a = alpha[c], b = beta[c];
                for (int64_t start = c * inner; start < (c + 1) * inner; start += RUN) {
                    int64_t end = start + RUN < (c + 1) * inner ? start + RUN : (c + 1) * inner;
                    float sa = 0.0f, sb = 0.0f;
#pragma omp simd reduction(+ : sa, sb)
                    for (int64_t i = start; i < end; i++) {
                        float da, db;
                        gx[i] = g[i] * slopes(x[i], a, b, &da, &db);
                        sa += g[i] * da;
                        sb += g[i] * db;
                    }
                    ga[c] += sa;
                    gb[c] += sb;
                }
            }
        }
        x += channels * inner;
        g += channels * inner;
        gx += channels * inner;
    }
}
