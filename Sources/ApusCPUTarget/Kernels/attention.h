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
#endif
// Keys per step, a multiple of NR, and query rows that share one packed step.
#ifndef APUS_ATTN_KEYS
#define APUS_ATTN_KEYS 128
#endif
#ifndef APUS_ATTN_ROWS
#define APUS_ATTN_ROWS 192
#endif

// Rows of one (batch, key head): its query heads one after the other, Sq rows each.
APUS_INLINE i64 FN(attention_tall)(const apus_attention_args *g) { return g->heads / g->kvHeads * g->Sq > 4; }
APUS_INLINE i64 FN(attention_row_blocks)(const apus_attention_args *g, i64 threads) {
  i64 rows = g->heads / g->kvHeads * g->Sq;
  // Shorter blocks where there would be fewer than threads.
  i64 n = APUS_CEIL(rows, APUS_ATTN_ROWS), want = APUS_CEIL(threads, APUS_MAX(1, g->B * g->kvHeads));
  return FN(attention_tall)(g) ? APUS_MAX(n, APUS_MIN(want, APUS_CEIL(rows, NR))) : 1;
}
APUS_INLINE i64 FN(attention_blocks)(const apus_attention_args *g, i64 threads) {
  double flops = 2.0 * g->B * g->heads * g->Sq * g->Sk * (g->D + g->Dv);
  i64 n = (i64)APUS_MIN(flops / 200e3, 4.0 * threads);
  return APUS_MAX(1, APUS_MIN(n, g->B * g->kvHeads * FN(attention_row_blocks)(g, n)));
}
// Bytes: queries and results of a unit's rows, values of one step, its scores and mask, and one panel of results.
APUS_INLINE i64 FN(attention_scratch)(const apus_attention_args *g) {
  i64 dv = APUS_ROUND_UP(g->Dv, VL), rows = APUS_ROUND_UP(APUS_ATTN_ROWS, NR);
  return 4 * (rows * (g->D + g->Dv + 2) + APUS_ATTN_KEYS * (g->Dv + 2 * NR) + (dv + MR) * NR) + 256;
}

// exp(x) for x <= 0; results below the normal range are zero.
APUS_INLINE apus_vf FN(attention_exp)(apus_vf x) {
  const apus_vf least = (apus_vf){0} - 87.3365f;
  const apus_vi under = x < least;
  const apus_vf c = (apus_vf)(((apus_vi)least & under) | ((apus_vi)x & ~under));
  apus_vf t = c * 0x1.715476p+0f + APUS_MAGIC_F32, n = t - APUS_MAGIC_F32;
  apus_vf r = c - n * 0x1.62e4p-1f;
  r = r - n * 1.4286068203e-6f;
  apus_vf q = r * 1.39505405e-3f + 8.36891787e-3f;
  q = q * r + 4.16662051e-2f;
  q = q * r + 1.66665186e-1f;
  q = q * r + 5.00000010e-1f;
  q = (q * r) * r + r + 1.0f;
  q = q * (apus_vf)(((apus_vi)t - (0x4b400000 - 127)) << 23);
  return (apus_vf)((apus_vi)q & ~under);
}

// to[d * step + i] = rows[i][d] for d < D and i < n, rounded up to whole vectors of n; up to there rows can be read.
APUS_NOINLINE void FN(attention_turn)(const float *const *rows, i64 n, i64 D, float *to, i64 step) {
  for (i64 i = 0; i < n; i += VL) {
    i64 d = 0;
    for (; d + VL <= D; d += VL) {
      apus_vf v[VL];
      APUS_UNROLL for (int k = 0; k < VL; k++) v[k] = APUS_LOADV(rows[i + k] + d);
      apus_transpose(v);
      APUS_UNROLL for (int k = 0; k < VL; k++) APUS_STOREV(to + (d + k) * step + i, v[k]);
    }
    for (; d < D; d++)
      for (int k = 0; k < VL; k++) to[d * step + i + k] = rows[i + k][d];
  }
}

// What NR query rows, which lie in lanes, may look at in a step.
typedef struct {
  const float *mask[NR];  // at the step's first key; null without a mask
  i64 seen[NR];           // keys of the step that are seen
} FN(attention_lanes);

// Turns scores [keys][NR] into exponentials, folds them into the running maximum m and sum l, and tells in keep what to
// multiply with what was summed before.
APUS_INLINE void FN(attention_softmax)(const apus_attention_args *g, float *s, i64 keys, const FN(attention_lanes) *lanes,
                                       float *masks, float *m, float *l, float *keep) {
  const float inf = __builtin_inff(), scale = g->scale;
  // Without a mask scores are scaled where they are used.
  const float factor = g->mask ? 1.0f : scale;
  if (g->mask) {
    int shared = 1;
    for (int i = 1; i < NR; i++) shared &= lanes->mask[i] == lanes->mask[0];
    if (shared) {
      for (i64 k = 0; k < keys; k++) {
        const float add = lanes->mask[0][k * g->maskK];
        APUS_UNROLL for (int i = 0; i < NR; i += VL) APUS_STOREV(s + k * NR + i, APUS_LOADV(s + k * NR + i) * scale + add);
      }
    } else {
      if (g->maskK == 1) FN(attention_turn)(lanes->mask, NR, keys, masks, NR);
      else
        for (i64 k = 0; k < keys; k++)
          for (int i = 0; i < NR; i++) masks[k * NR + i] = lanes->mask[i][k * g->maskK];
      for (i64 k = 0; k < keys * NR; k += VL) APUS_STOREV(s + k, APUS_LOADV(s + k) * scale + APUS_LOADV(masks + k));
    }
  }
  if (g->causal) {
    i64 least = keys;
    for (int i = 0; i < NR; i++) least = APUS_MIN(least, lanes->seen[i]);
    for (i64 k = least; k < keys; k++)
      for (int i = 0; i < NR; i++) s[k * NR + i] = k < lanes->seen[i] ? s[k * NR + i] : -inf;
  }
  APUS_UNROLL for (int i = 0; i < NR; i += VL) {
    const apus_vf before = APUS_LOADV(m + i);
    apus_vf top = before, sum = {0};
    for (i64 k = 0; k < keys; k++) {
      const apus_vf v = APUS_LOADV(s + k * NR + i) * factor;
      const apus_vi above = v > top;
      top = (apus_vf)(((apus_vi)v & above) | ((apus_vi)top & ~above));
    }
    // A NaN score is passed over above; its exponential carries it on.
    const apus_vi none = top == (apus_vf){0} - inf;
    const apus_vf base = (apus_vf)((apus_vi)top & ~none);
    for (i64 k = 0; k < keys; k++) {
      const apus_vf v = FN(attention_exp)(APUS_LOADV(s + k * NR + i) * factor - base);
      APUS_STOREV(s + k * NR + i, v);
      sum += v;
    }
    const apus_vf old = FN(attention_exp)(before - base);
    APUS_STOREV(l + i, APUS_LOADV(l + i) * old + sum);
    APUS_STOREV(m + i, top);
    APUS_STOREV(keep + i, old);
  }
}

// Many rows per key: scores are computed as [keys][rows], so that what belongs to a row lies in a lane.
APUS_NOINLINE void FN(attention_wide)(const apus_attention_args *g, i64 b, i64 kvh, i64 r0, i64 r1, float *scratch) {
  const i64 D = g->D, Dv = g->Dv, dv = APUS_ROUND_UP(Dv, VL), group = g->heads / g->kvHeads, n = r1 - r0;
  const i64 blocks = APUS_CEIL(n, NR);
  float *const qt = (float *)(((u64)scratch + 63) & ~63ul), *const s = qt + blocks * NR * D;
  float *const masks = s + APUS_ATTN_KEYS * NR, *const out = masks + APUS_ATTN_KEYS * NR;
  float *const tile = out + blocks * NR * Dv, *const mx = tile + (dv + MR) * NR, *const sum = mx + blocks * NR;
  float *const vt = sum + blocks * NR;
  const float *K = g->k + b * g->kB + kvh * g->kH, *V = g->v + b * g->vB + kvh * g->vH;
  const float *rows[APUS_ATTN_KEYS];
  APUS_ALIGNED float keep[NR];
  FN(attention_lanes) lanes;
  for (i64 q = 0; q < blocks; q++) {
    for (i64 i = 0; i < NR; i++) {
      // Lanes beyond the last row repeat it.
      const i64 r = r0 + APUS_MIN(q * NR + i, n - 1);
      rows[i] = g->q + b * g->qB + (kvh * group + r / g->Sq) * g->qH + r % g->Sq * g->qS;
    }
    FN(attention_turn)(rows, NR, D, qt + q * NR * D, NR);
  }
  for (i64 i = 0; i < blocks * NR; i++) mx[i] = -__builtin_inff(), sum[i] = 0;
  for (i64 i = 0; i < blocks * NR * Dv; i++) out[i] = 0;
  for (i64 j0 = 0; j0 < g->Sk; j0 += APUS_ATTN_KEYS) {
    const i64 step = APUS_MIN(APUS_ATTN_KEYS, g->Sk - j0);
    i64 turned = 0;
    for (i64 q = 0; q < blocks; q++) {
      i64 keys = 0;
      for (i64 i = 0; i < NR; i++) {
        const i64 r = r0 + APUS_MIN(q * NR + i, n - 1), h = kvh * group + r / g->Sq, at = r % g->Sq;
        lanes.mask[i] = g->mask ? g->mask + b * g->maskB + h * g->maskH + at * g->maskQ + j0 * g->maskK : 0;
        lanes.seen[i] = g->causal ? APUS_MAX(0, APUS_MIN(step, at + g->causalOffset + 1 - j0)) : step;
        keys = APUS_MAX(keys, lanes.seen[i]);
      }
      if (keys == 0) continue;
      if (!turned) {
        for (i64 j = 0; j < APUS_ATTN_KEYS; j++) rows[j] = V + (j0 + APUS_MIN(j, step - 1)) * g->vS;
        FN(attention_turn)(rows, step, Dv, vt, APUS_ATTN_KEYS);
        turned = 1;
      }
      for (i64 t = 0, parts = APUS_CEIL(keys, MR); t < parts; t++) {
        const i64 k0 = t * keys / parts, k1 = (t + 1) * keys / parts;
        for (i64 i = 0; i < MR; i++) rows[i] = K + (j0 + APUS_MIN(k0 + i, keys - 1)) * g->kS;
        CORE_FN(_tile)(k1 - k0, rows, 0, 1, D, qt + q * NR * D, s + k0 * NR);
      }
      FN(attention_softmax)(g, s, keys, &lanes, masks, mx + q * NR, sum + q * NR, keep);
      for (i64 t = 0, parts = APUS_CEIL(Dv, MR); t < parts; t++) {
        const i64 d0 = t * Dv / parts, d1 = (t + 1) * Dv / parts;
        float *o = out + (q * Dv + d0) * NR;
        for (i64 i = 0; i < MR; i++) rows[i] = vt + APUS_MIN(d0 + i, Dv - 1) * APUS_ATTN_KEYS;
        CORE_FN(_tile)(d1 - d0, rows, 0, 1, keys, s, tile);
        for (i64 i = 0; i < (d1 - d0) * NR; i += NR)
          APUS_UNROLL for (int e = 0; e < NR; e += VL)
            APUS_STOREV(o + i + e, APUS_LOADV(o + i + e) * APUS_LOADV(keep + e) + APUS_LOADV(tile + i + e));
      }
    }
  }
  for (i64 q = 0; q < blocks; q++) {
    float *o = out + q * Dv * NR;
    for (i64 d = 0; d < Dv; d++)
      APUS_UNROLL for (int e = 0; e < NR; e += VL)
        APUS_STOREV(o + d * NR + e, APUS_LOADV(o + d * NR + e) / APUS_LOADV(sum + q * NR + e));
    for (i64 d0 = 0; d0 < Dv; d0 += APUS_ATTN_KEYS) {
      const i64 part = APUS_MIN(APUS_ATTN_KEYS, Dv - d0);
      for (i64 d = 0; d < APUS_ATTN_KEYS; d++) rows[d] = o + (d0 + APUS_MIN(d, part - 1)) * NR;
      FN(attention_turn)(rows, part, NR, tile + d0, dv);
    }
#ifdef EPILOGUE
    for (i64 i = 0; i < NR && q * NR + i < n;) {
      const i64 r = r0 + q * NR + i, at = r % g->Sq, run = APUS_MIN(g->Sq - at, APUS_MIN(NR - i, n - q * NR - i));
      EPILOGUE(g->ctx, tile + i * dv, dv, b * g->heads + kvh * group + r / g->Sq, at, run, 0, Dv);
      i += run;
    }
#endif
  }
}

// Scales n scores, adds the mask, folds them into the running maximum and sum, and turns them into exponentials;
// returns the factor for what was summed before. Scores lie in runs of NR, stride apart; keys from seen on are hidden.
APUS_INLINE float FN(attention_fold)(const apus_attention_args *g, float *s, i64 stride, const float *mask, i64 seen,
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
      keep[r] = FN(attention_fold)(g, sc + r * APUS_ATTN_KEYS, NR, mask[r] ? mask[r] + j0 * g->maskK : 0, limit[r] - j0,
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
    apus_range s = apus_share(APUS_CEIL(rows, NR), u % parts, parts);
    if (s.begin < s.end)
      FN(attention_wide)(g, u / parts / g->kvHeads, u / parts % g->kvHeads, s.begin * NR, APUS_MIN(s.end * NR, rows),
                         (float *)scratch);
  }
}
