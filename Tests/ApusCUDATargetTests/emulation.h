// Runs the threads of a CUDA block on one processor: what CUDA C++ has beyond C++, as far as kernels without matrix
// instructions use it. Threads that meet at a barrier or exchange values are fibers that take turns.
#include <math.h>
#include <string.h>
#include <ucontext.h>

#define __device__
#define __forceinline__ inline __attribute__((always_inline))

struct emulated_index { unsigned x; };
static thread_local emulated_index threadIdx;

static inline unsigned __float_as_uint(float x) { unsigned r; memcpy(&r, &x, 4); return r; }
static inline float __uint_as_float(unsigned x) { float r; memcpy(&r, &x, 4); return r; }
static inline float __int_as_float(int x) { float r; memcpy(&r, &x, 4); return r; }
static inline long long __double_as_longlong(double x) { long long r; memcpy(&r, &x, 8); return r; }
static inline void sincospif(float x, float *s, float *c) { *s = (float)sin(M_PI * x), *c = (float)cos(M_PI * x); }
static inline void sincospi(double x, double *s, double *c) { *s = sin(M_PI * x), *c = cos(M_PI * x); }
static inline double __longlong_as_double(long long x) { double r; memcpy(&r, &x, 8); return r; }

// Fibers: each runs until it waits for others, in the order of their numbers.
enum { emulated_stack = 1 << 16, emulated_threads = 1024 };
// Threads that meet: those that have come, those that are still running, and how often they have met.
struct emulated_group { unsigned waiting, running, meetings; };
struct emulated_block {
  ucontext_t scheduler, fibers[emulated_threads];
  bool isDone[emulated_threads];
  char slots[emulated_threads][16];
  emulated_group all, warps[emulated_threads / 32];
  char *stacks;
  void (*body)(void *);
  void *argument;
};
static thread_local emulated_block *emulated_current;

__attribute__((noinline)) static void emulated_yield() {
  emulated_block *block = emulated_current;
  unsigned thread = threadIdx.x;
  swapcontext(&block->fibers[thread], &block->scheduler);
}
static void emulated_release(emulated_group &group) {
  if (group.waiting < group.running) return;
  group.waiting = 0;
  group.meetings++;
}
static void emulated_leave(emulated_group &group) {
  group.running--;
  if (group.waiting > 0) emulated_release(group);
}
__attribute__((noinline)) static void emulated_meet(emulated_group &group) {
  const unsigned before = group.meetings;
  group.waiting++;
  emulated_release(group);
  while (group.meetings == before) emulated_yield();
}
static inline void __syncthreads() { emulated_meet(emulated_current->all); }
static inline void __syncwarp() { emulated_meet(emulated_current->warps[threadIdx.x / 32]); }

// What `read` makes of the values that the lanes of a warp give.
template <typename T, typename READ> auto emulated_exchange(T x, READ read) {
  memcpy(emulated_current->slots[threadIdx.x], &x, sizeof x);
  __syncwarp();
  auto r = read([](unsigned thread) {
    T y;
    memcpy(&y, emulated_current->slots[thread], sizeof y);
    return y;
  });
  __syncwarp();
  return r;
}
template <typename T> T __shfl_xor_sync(unsigned, T x, int mask) {
  return emulated_exchange(x, [=](auto at) { return at(threadIdx.x ^ mask); });
}
template <typename T> T __shfl_sync(unsigned, T x, int lane) {
  return emulated_exchange(x, [=](auto at) { return at((threadIdx.x & ~31u) + (lane & 31)); });
}
template <typename T> T __shfl_up_sync(unsigned, T x, int step) {
  return emulated_exchange(x, [=](auto at) { return at((threadIdx.x & 31) < step ? threadIdx.x : threadIdx.x - step); });
}
template <typename T> unsigned __match_any_sync(unsigned, T x) {
  return emulated_exchange(x, [=](auto at) {
    unsigned same = 0;
    for (unsigned lane = 0; lane < 32; lane++) same |= (unsigned)(at((threadIdx.x & ~31u) + lane) == x) << lane;
    return same;
  });
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
template <typename T> T __ldcg(const T *p) { return *p; }
// Fibers take turns only where they wait.
template <typename T> T atomicAdd(T *p, T x) { T old = *p; *p = old + x; return old; }
template <typename T> T atomicMax(T *p, T x) { T old = *p; if (x > old) *p = x; return old; }

static void emulated_start() {
  emulated_block *block = emulated_current;
  block->body(block->argument);
  block->isDone[threadIdx.x] = true;
  emulated_leave(block->all);
  emulated_leave(block->warps[threadIdx.x / 32]);
  swapcontext(&block->fibers[threadIdx.x], &block->scheduler);
}

// Runs `body` once for each thread of a block. Threads that never meet run one after the other.
static void emulated_run(unsigned threads, bool threadsMeet, void (*body)(void *), void *argument) {
  if (!threadsMeet) {
    for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) body(argument);
    return;
  }
  static thread_local emulated_block *block;
  if (!block) {
    block = new emulated_block;
    block->stacks = new char[(long)emulated_stack * emulated_threads];
  }
  emulated_current = block;
  block->body = body;
  block->argument = argument;
  block->all = {0, threads, 0};
  for (unsigned i = 0; i < threads; i += 32) block->warps[i / 32] = {0, threads - i < 32 ? threads - i : 32, 0};
  for (unsigned i = 0; i < threads; i++) {
    getcontext(&block->fibers[i]);
    block->fibers[i].uc_stack.ss_sp = block->stacks + (long)i * emulated_stack;
    block->fibers[i].uc_stack.ss_size = emulated_stack;
    block->fibers[i].uc_link = 0;
    makecontext(&block->fibers[i], emulated_start, 0);
    block->isDone[i] = false;
  }
  for (bool goesOn = true; goesOn;) {
    goesOn = false;
    for (unsigned i = 0; i < threads; i++) {
      if (block->isDone[i]) continue;
      threadIdx.x = i;
      swapcontext(&block->scheduler, &block->fibers[i]);
      goesOn = goesOn || !block->isDone[i];
    }
  }
}
