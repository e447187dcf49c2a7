#ifndef CAPUSHOST_H
#define CAPUSHOST_H

#include <stddef.h>
#include <stdint.h>

/// The pause instruction of a spin loop.
static inline void apus_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/// Sleeps while `*word` equals `expected`; may return early.
void apus_wait(uint32_t *word, uint32_t expected);

/// Wakes up to `count` threads that sleep on `word`.
void apus_wake(uint32_t *word, int32_t count);

/// Number of processors this process may run on.
int32_t apus_processor_count(void);

/// Bytes of physical memory.
uint64_t apus_physical_memory(void);

/// Bytes of the last level of cache; 32 MiB where the system does not tell.
uint64_t apus_cache_size(void);

/// Writes the processor's name, or `unknown`, with a zero behind it.
void apus_processor_model(char text[64]);

/// Names the calling thread in debuggers and profilers.
void apus_name_thread(const char *name);

// Keeps the calling thread on one of the processors that the process may run on, counted modulo their number, where the system
// can do that.
void apus_pin_thread(int32_t index);

/// Opens an unnamed file in memory that holds the bytes, or an unlinked temporary file where the system has none.
/// Returns the descriptor, or minus the error number.
int32_t apus_memory_file(const void *bytes, size_t byte_count);

/// Architecture of this machine: `x86-64`, `arm64`.
const char *apus_architecture(void);

/// The instruction-set features that can be asked for, in a fixed order; NULL at the end.
const char *apus_feature_name(int32_t index);

/// Whether the processor and the system support feature `index`.
int32_t apus_feature_supported(int32_t index);

/// A kernel, as compiled ones are called.
typedef void (*apus_kernel)(void *const *buffers, const int64_t *params, int64_t block, int64_t blocks, void *scratch);

/// Kernels that find out what the processor can do at most.
typedef struct {
  /// Multiplies and adds f32 in registers, `params[0]` times; two factors in buffer 0, 64 bytes a block for results in 1.
  apus_kernel multiply;
  /// Reads its part of the `params[0]` bytes of buffer 0; 64 bytes a block for results in buffer 1.
  apus_kernel read;
  /// Does nothing.
  apus_kernel nothing;
  /// Operations of one of the times of `multiply`, in each block.
  int64_t operations;
} apus_probes;

/// The probes for this processor.
apus_probes apus_find_probes(void);

#endif
