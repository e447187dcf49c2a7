// Attention with an online softmax, f32: out = softmax(scale * Q K^T + mask) V, no score matrix in memory.
// Needs prelude.h, math.h and, with the same KERNEL, EPILOGUE and T = float, gemm.h.
#ifndef APUS_ATTENTION_TYPES
#define APUS_ATTENTION_TYPES
typedef struct {
  const float *q, *k, *v;
  const float *mask;  // added to the scores; may be null
  const void *ctx;
  i64 B, heads, kvHeads, Sq, Sk, D, Dv;
  // Element strides; the last dimension of q, k and v is contiguous.
  i64 qB, qH, qS, kB, kH, kS, vB, vH, vS, maskB, maskH, maskQ, maskK;
  i64 causal;         // key j is seen by query i if j <= i + causalOffset
  i64 causalOffset;   // usually Sk - Sq
  float scale;
} apus_attention_args;
// Keys per step, and query rows that share one packed step.
#define APUS_ATTN_KEYS 128
#define APUS_ATTN_ROWS 192
#endif

// Rows of one (batch, key head): its query heads one after the other, Sq rows each.
APUS_INLINE i64 FN(attention_tall)(const apus_attention_args *g) { return g->heads / g->kvHeads * g->Sq > 4; }
APUS_INLINE i64 FN(attention_row_blocks)(const apus_attention_args *g, i64 threads) {
  i64 rows = g->heads / g->kvHeads * g->Sq;
  // Shorter blocks where there would be fewer than threads.
  i64 n = APUS_CEIL(rows, APUS_ATTN_ROWS), want = APUS_CEIL(threads, APUS_MAX(1, g->B * g->kvHeads));
  return FN(attention_tall)(g) ? APUS_MAX(n, APUS_MIN(want, APUS_CEIL(rows, 2 * MR))) : 1;
}
APUS_INLINE i64 FN(attention_blocks)(const apus_attention_args *g, i64 threads) {
  double flops = 2.0 * g->B * g->heads * g->Sq * g->Sk * (g->D + g->Dv);
  i64 n = (i64)APUS_MIN(flops / 200e3, 4.0 * threads);
  return APUS_MAX(1, APUS_MIN(n, g->B * g->kvHeads * FN(attention_row_blocks)(g, n)));
}
// Bytes: packed keys and values of one step, scores of one tile, and per row the output, maximum and sum.
APUS_INLINE i64 FN(attention_scratch)(const apus_attention_args *g) {
  i64 dv = APUS_ROUND_UP(g->Dv, NR);
  return 4 * (APUS_ATTN_KEYS * (g->D + dv) + MR * APUS_ATTN_KEYS + (APUS_ATTN_ROWS + MR) * (dv + 2)) + 256;
}

// Scales n scores, adds the mask, folds them into the running maximum and sum, and turns them into exponentials;
// returns the factor for what was summed before. Scores lie in runs of NR, stride apart; keys from seen on are hidden.
APUS_INLINE float FN(attention_softmax)(const apus_attention_args *g, float *s, i64 stride, const float *mask, i64 seen,
                                        i64 n, float *m, float *l) {
  const float inf = __builtin_inff(), scale = g->scale;
  const i64 mk = g->maskK;
  apus_vf mv = (apus_vf){0} - inf, sv = {0};
  for (i64 p = 0; p * NR < n; p++) {
    float *t = s + p * stride;
    const i64 live = APUS_MAX(0, APUS_MIN(NR, APUS_MIN(n, seen) - p * NR));
    if (mask && mk == 1) { APUS_LANES for (i64 j = 0; j < live; j++) t[j] = t[j] * scale + mask[p * NR + j]; }
    else if (mask) { APUS_LANES for (i64 j = 0; j < live; j++) t[j] = t[j] * scale + mask[(p * NR + j) * mk]; }
    else { APUS_LANES for (i64 j = 0; j < NR; j++) t[j] *= scale; }
    for (i64 j = live; j < NR; j++) t[j] = -inf;
    APUS_UNROLL for (int i = 0; i < NR; i += VL) {
      apus_vf v = APUS_LOADV(t + i);
      apus_vi k = v > mv;
      mv = (apus_vf)(((apus_vi)v & k) | ((apus_vi)mv & ~k));
    }
  }
  float top = *m;
  for (int i = 0; i < VL; i++) top = mv[i] > top ? mv[i] : top;
  // A NaN score is passed over above; its exponential carries it on.
  const float base = top == -inf ? 0.0f : top;
  for (i64 p = 0; p * NR < n; p++) {
    float *t = s + p * stride;
    APUS_LANES for (i64 j = 0; j < NR; j++) t[j] = apus_exp_f32(t[j] - base);
    APUS_UNROLL for (int i = 0; i < NR; i += VL) sv += APUS_LOADV(t + i);
  }
  float sum[VL];
  __builtin_memcpy(sum, &sv, sizeof sum);
  APUS_UNROLL for (int w = VL / 2; w; w /= 2)
    APUS_UNROLL for (int i = 0; i < w; i++) sum[i] += sum[i + w];
  float keep = *m == -inf ? 0.0f : apus_exp_f32(*m - base);
  *l = *l * keep + sum[0];
  *m = top;
  return keep;
}

// Many rows per key: keys and values of a step are packed, then both products run on the core.
APUS_NOINLINE void FN(attention_wide)(const apus_attention_args *g, i64 b, i64 kvh, i64 r0, i64 r1, float *scratch) {
  const i64 D = g->D, Dv = g->Dv, dv = APUS_ROUND_UP(Dv, NR), group = g->heads / g->kvHeads;
  float *kp = scratch, *vp = kp + APUS_ATTN_KEYS * D, *sc = vp + APUS_ATTN_KEYS * dv;
  sc = (float *)(((u64)sc + 63) & ~63ul);
  float *out = sc + MR * APUS_ATTN_KEYS, *mx = out + (APUS_ATTN_ROWS + MR) * dv, *sum = mx + APUS_ATTN_ROWS + MR;
  const float *K = g->k + b * g->kB + kvh * g->kH, *V = g->v + b * g->vB + kvh * g->vH;
  APUS_ALIGNED float tile[MR * NR];
  const float *rows[MR], *runs[APUS_ATTN_KEYS / NR * MR];
  const i64 n = r1 - r0;
  for (i64 i = 0; i < n; i++) mx[i] = -__builtin_inff(), sum[i] = 0;
  for (i64 i = 0; i < n * dv; i++) out[i] = 0;
  // Furthest key any row sees.
  i64 far = g->Sk;
  if (g->causal) {
    i64 last = r0 / g->Sq == (r1 - 1) / g->Sq ? (r1 - 1) % g->Sq : g->Sq - 1;
    far = APUS_MAX(0, APUS_MIN(far, last + g->causalOffset + 1));
  }
  for (i64 j0 = 0; j0 < far; j0 += APUS_ATTN_KEYS) {
    const i64 keys = APUS_MIN(APUS_ATTN_KEYS, g->Sk - j0), padded = APUS_ROUND_UP(keys, NR);
    apus_pack_args pk = {K + j0 * g->kS, kp, 1, 1, D, keys, 1, g->kS, 0, 0};
    FN(pack_b)(&pk, 0, 1);
    // Rows up to a whole number of runs are zero: hidden keys have weight zero there.
    for (i64 p = 0; p * NR < Dv; p++) {
      apus_pack_args pv = {V + j0 * g->vS + p * NR, vp + p * padded * NR, 1, 1, keys, APUS_MIN(NR, Dv - p * NR), g->vS, 1, 0, 0};
      FN(pack_b)(&pv, 0, 1);
      for (i64 j = keys * NR; j < padded * NR; j++) vp[p * padded * NR + j] = 0;
    }
    for (i64 i0 = 0; i0 < n; i0 += MR) {
      const i64 mr = APUS_MIN(MR, n - i0);
      i64 lastSeen = -1;
      for (i64 i = 0; i < mr; i++) {
        i64 r = r0 + i0 + i, h = kvh * group + r / g->Sq, q = r % g->Sq;
        rows[i] = g->q + b * g->qB + h * g->qH + q * g->qS;
        lastSeen = APUS_MAX(lastSeen, q + g->causalOffset);
      }
      if (g->causal && lastSeen < j0) continue;
      for (i64 p = 0; p * NR < keys; p++) CORE_FN(_tile)(mr, rows, 0, 1, D, kp + p * NR * D, sc + p * MR * NR);
      float keep[MR];
      for (i64 i = 0; i < mr; i++) {
        i64 r = r0 + i0 + i, h = kvh * group + r / g->Sq, q = r % g->Sq;
        const float *mask = g->mask ? g->mask + b * g->maskB + h * g->maskH + q * g->maskQ + j0 * g->maskK : 0;
        i64 seen = g->causal ? APUS_MIN(keys, q + g->causalOffset + 1 - j0) : keys;
        keep[i] = FN(attention_softmax)(g, sc + i * NR, MR * NR, mask, seen, keys, mx + i0 + i, sum + i0 + i);
      }
      for (i64 p = 0; p * NR < keys; p++)
        for (i64 i = 0; i < mr; i++) runs[p * MR + i] = sc + (p * MR + i) * NR;
      for (i64 p = 0; p * NR < Dv; p++) {
        CORE_FN(_tile)(mr, runs, MR, padded / NR, NR, vp + p * padded * NR, tile);
        for (i64 i = 0; i < mr; i++) {
          float *o = out + (i0 + i) * dv + p * NR;
          APUS_LANES for (i64 j = 0; j < NR; j++) o[j] = o[j] * keep[i] + tile[i * NR + j];
        }
      }
    }
  }
  for (i64 i = 0; i < n; i++) {
    i64 r = r0 + i;
    for (i64 j = 0; j < Dv; j++) out[i * dv + j] /= sum[i];
#ifdef EPILOGUE
    EPILOGUE(g->ctx, out + i * dv, dv, b * g->heads + kvh * group + r / g->Sq, r % g->Sq, 1, 0, Dv);
#endif
  }
}

// nr rows that share keys and values, which are read in place.
APUS_INLINE void FN(attention_rows)(const int nr, const apus_attention_args *g, i64 b, i64 kvh, i64 r0, float *scratch) {
  const i64 D = g->D, Dv = g->Dv, group = g->heads / g->kvHeads;
  float *sc = scratch, *out = sc + 4 * APUS_ATTN_KEYS, m[4], l[4], keep[4];
  const float *Q[4], *mask[4];
  const float *K = g->k + b * g->kB + kvh * g->kH, *V = g->v + b * g->vB + kvh * g->vH;
  i64 limit[4], far = 0;
  for (int r = 0; r < nr; r++) {
    i64 h = kvh * group + (r0 + r) / g->Sq, q = (r0 + r) % g->Sq;
    Q[r] = g->q + b * g->qB + h * g->qH + q * g->qS;
    mask[r] = g->mask ? g->mask + b * g->maskB + h * g->maskH + q * g->maskQ : 0;
    limit[r] = g->causal ? APUS_MAX(0, APUS_MIN(g->Sk, q + g->causalOffset + 1)) : g->Sk;
    far = APUS_MAX(far, limit[r]);
    m[r] = -__builtin_inff(), l[r] = 0;
  }
  for (i64 j = 0; j < nr * Dv; j++) out[j] = 0;
  for (i64 j0 = 0; j0 < far; j0 += APUS_ATTN_KEYS) {
    const i64 keys = APUS_MIN(APUS_ATTN_KEYS, far - j0);
    for (i64 j = 0; j < keys; j += 4) {
      const i64 live = APUS_MIN(4, keys - j);
      const float *k[4];
      APUS_UNROLL for (int i = 0; i < 4; i++) k[i] = K + (j0 + j + APUS_MIN(i, live - 1)) * g->kS;
      apus_vf acc[4][4];
      APUS_UNROLL for (int i = 0; i < 4; i++)
        APUS_UNROLL for (int r = 0; r < nr; r++) acc[i][r] = (apus_vf){0};
      i64 d = 0;
      APUS_NOUNROLL for (; d + VL <= D; d += VL) {
        apus_vf qv[4];
        APUS_UNROLL for (int r = 0; r < nr; r++) qv[r] = APUS_LOADV(Q[r] + d);
        APUS_UNROLL for (int i = 0; i < 4; i++) {
          apus_vf kv = APUS_LOADV(k[i] + d);
          APUS_UNROLL for (int r = 0; r < nr; r++) acc[i][r] += qv[r] * kv;
        }
      }
      APUS_UNROLL for (int r = 0; r < nr; r++)
        APUS_UNROLL for (int i = 0; i < 4; i++) {
          float part[VL], s;
          __builtin_memcpy(part, &acc[i][r], sizeof part);
          APUS_UNROLL for (int w = VL / 2; w; w /= 2)
            APUS_UNROLL for (int e = 0; e < w; e++) part[e] += part[e + w];
          s = part[0];
          APUS_NOUNROLL for (i64 e = d; e < D; e++) s += Q[r][e] * k[i][e];
          sc[r * APUS_ATTN_KEYS + j + i] = s;
        }
    }
    for (int r = 0; r < nr; r++)
      keep[r] = FN(attention_softmax)(g, sc + r * APUS_ATTN_KEYS, NR, mask[r] ? mask[r] + j0 * g->maskK : 0, limit[r] - j0,
                                      keys, m + r, l + r);
    i64 c = 0;
    for (; c + 2 * VL <= Dv; c += 2 * VL) {
      apus_vf a[4][2];
      APUS_UNROLL for (int r = 0; r < nr; r++)
        APUS_UNROLL for (int i = 0; i < 2; i++) a[r][i] = APUS_LOADV(out + r * Dv + c + i * VL) * keep[r];
      const float *v = V + j0 * g->vS + c;
      APUS_NOUNROLL for (i64 j = 0; j < keys; j++, v += g->vS)
        APUS_UNROLL for (int i = 0; i < 2; i++) {
          apus_vf vv = APUS_LOADV(v + i * VL);
          APUS_UNROLL for (int r = 0; r < nr; r++) a[r][i] += vv * sc[r * APUS_ATTN_KEYS + j];
        }
      APUS_UNROLL for (int r = 0; r < nr; r++)
        APUS_UNROLL for (int i = 0; i < 2; i++) APUS_STOREV(out + r * Dv + c + i * VL, a[r][i]);
    }
    for (int r = 0; r < nr; r++)
      for (i64 e = c; e < Dv; e++) {
        float a = out[r * Dv + e] * keep[r];
        for (i64 j = 0; j < keys; j++) a += V[(j0 + j) * g->vS + e] * sc[r * APUS_ATTN_KEYS + j];
        out[r * Dv + e] = a;
      }
  }
  for (int r = 0; r < nr; r++) {
    float *o = out + r * Dv;
    for (i64 j = 0; j < Dv; j++) o[j] /= l[r];
#ifdef EPILOGUE
    EPILOGUE(g->ctx, o, Dv, b * g->heads + kvh * group + (r0 + r) / g->Sq, (r0 + r) % g->Sq, 1, 0, Dv);
#endif
  }
}

APUS_STATIC void FN(attention)(const apus_attention_args *g, i64 block, i64 blockCount, void *scratch) {
  const i64 rows = g->heads / g->kvHeads * g->Sq;
  if (rows == 0) return;
  if (!FN(attention_tall)(g)) {
    apus_range r = apus_share(g->B * g->kvHeads, block, blockCount);
    for (i64 u = r.begin; u < r.end; u++) {
      const i64 b = u / g->kvHeads, h = u % g->kvHeads;
      if (rows == 1) FN(attention_rows)(1, g, b, h, 0, (float *)scratch);
      else if (rows == 4) FN(attention_rows)(4, g, b, h, 0, (float *)scratch);
      else {
        FN(attention_rows)(2, g, b, h, 0, (float *)scratch);
        if (rows == 3) FN(attention_rows)(1, g, b, h, 2, (float *)scratch);
      }
    }
    return;
  }
  const i64 parts = FN(attention_row_blocks)(g, blockCount);
  apus_range r = apus_share(g->B * g->kvHeads * parts, block, blockCount);
  for (i64 u = r.begin; u < r.end; u++) {
    apus_range s = apus_share(rows, u % parts, parts);
    if (s.begin < s.end)
      FN(attention_wide)(g, u / parts / g->kvHeads, u / parts % g->kvHeads, s.begin, s.end, (float *)scratch);
  }
}
