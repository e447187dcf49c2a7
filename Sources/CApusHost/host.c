#if defined(__linux__)
#define _GNU_SOURCE
#endif

#include "CApusHost.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

void apus_wait(uint32_t *word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void apus_wake(uint32_t *word, int32_t count) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0); }

int32_t apus_processor_count(void) {
  // The set is sized for more processors than CPU_SETSIZE, or the call fails on large machines.
  size_t size = CPU_ALLOC_SIZE(8192);
  cpu_set_t *set = CPU_ALLOC(8192);
  int32_t count = 0;
  if (set && sched_getaffinity(0, size, set) == 0) count = CPU_COUNT_S(size, set);
  CPU_FREE(set);
  if (count < 1) count = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : count;
}

void apus_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

void apus_pin_thread(int32_t index) {
  size_t size = CPU_ALLOC_SIZE(8192);
  cpu_set_t *set = CPU_ALLOC(8192), *one = CPU_ALLOC(8192);
  if (set && one && sched_getaffinity(0, size, set) == 0) {
    const int32_t count = CPU_COUNT_S(size, set);
    int32_t left = count > 0 ? index % count : -1;
    for (int32_t cpu = 0; cpu < 8192 && left >= 0; cpu++) {
      if (!CPU_ISSET_S(cpu, size, set) || left-- > 0) continue;
      CPU_ZERO_S(size, one);
      CPU_SET_S(cpu, size, one);
      pthread_setaffinity_np(pthread_self(), size, one);
    }
  }
  CPU_FREE(set);
  CPU_FREE(one);
}

#else
// Without a wait on a word, sleeping is a short nap: callers re-check their condition.
void apus_wait(uint32_t *word, uint32_t expected) {
  if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == expected) usleep(50);
}
void apus_wake(uint32_t *word, int32_t count) {
  (void)word;
  (void)count;
}
int32_t apus_processor_count(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count < 1 ? 1 : (int32_t)count;
}
void apus_name_thread(const char *name) { pthread_setname_np(name); }
void apus_pin_thread(int32_t index) { (void)index; }
#endif

uint64_t apus_physical_memory(void) {
  long pages = sysconf(_SC_PHYS_PAGES);
  long size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
}

uint64_t apus_cache_size(void) {
#if defined(_SC_LEVEL3_CACHE_SIZE)
  long size = sysconf(_SC_LEVEL3_CACHE_SIZE);
#else
  long size = 0;
#endif
  return size > 0 ? (uint64_t)size : (uint64_t)32 << 20;
}

void apus_processor_model(char text[64]) {
  strcpy(text, "unknown");
#if defined(__x86_64__)
  unsigned words[13] = {0};
  for (unsigned part = 0; part < 3; part++) {
    unsigned *w = words + 4 * part;
    if (!__get_cpuid(0x80000002u + part, w, w + 1, w + 2, w + 3)) return;
  }
  const char *name = (const char *)words;
  while (*name == ' ') name++;
  strcpy(text, name);
  for (size_t end = strlen(text); end > 0 && text[end - 1] == ' '; end--) text[end - 1] = 0;
#endif
}

static int32_t temporary_file(void) {
  const char *folder = getenv("TMPDIR");
  char path[4096];
  if (!folder || !*folder || strlen(folder) > sizeof path - 32) folder = "/tmp";
  strcpy(path, folder);
  strcat(path, "/apus-image-XXXXXX");
  int file = mkstemp(path);
  if (file < 0) return -errno;
  unlink(path);
  return file;
}

int32_t apus_memory_file(const void *bytes, size_t byte_count) {
  int file = -1;
#if defined(__linux__)
  file = (int)syscall(SYS_memfd_create, "apus-image", MFD_CLOEXEC);
#endif
  if (file < 0) file = temporary_file();
  if (file < 0) return file;
  size_t offset = 0;
  while (offset < byte_count) {
    ssize_t written = write(file, (const char *)bytes + offset, byte_count - offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      int code = errno;
      close(file);
      return -code;
    }
    offset += (size_t)written;
  }
  return file;
}

// Features are listed once, here; the table on x86-64 asks the compiler's run-time support for each.
#if defined(__x86_64__)
const char *apus_architecture(void) { return "x86-64"; }

#define APUS_FEATURES(F)                                                                                             \
  F("sse3") F("ssse3") F("sse4.1") F("sse4.2") F("popcnt") F("avx") F("avx2") F("bmi") F("bmi2") F("f16c") F("fma") \
  F("lzcnt") F("movbe") F("avx512f") F("avx512bw") F("avx512cd") F("avx512dq") F("avx512vl") F("avx512ifma")         \
  F("avx512vbmi") F("avx512vbmi2") F("avx512vnni") F("avx512bitalg") F("avx512vpopcntdq") F("avx512bf16")            \
  F("avx512fp16") F("avxvnni") F("amx-tile") F("amx-int8") F("amx-bf16") F("gfni") F("vaes") F("vpclmulqdq")

#define APUS_NAME(name) name,
#define APUS_SUPPORTED(name) __builtin_cpu_supports(name) != 0,

static const char *const names[] = {APUS_FEATURES(APUS_NAME)};

int32_t apus_feature_supported(int32_t index) {
  __builtin_cpu_init();
  const int32_t supported[] = {APUS_FEATURES(APUS_SUPPORTED)};
  return index >= 0 && index < (int32_t)(sizeof names / sizeof *names) ? supported[index] : 0;
}

const char *apus_feature_name(int32_t index) {
  return index >= 0 && index < (int32_t)(sizeof names / sizeof *names) ? names[index] : NULL;
}
#else
#if defined(__aarch64__)
const char *apus_architecture(void) { return "arm64"; }
#else
const char *apus_architecture(void) { return "unknown"; }
#endif
const char *apus_feature_name(int32_t index) {
  (void)index;
  return NULL;
}
int32_t apus_feature_supported(int32_t index) {
  (void)index;
  return 0;
}
#endif
