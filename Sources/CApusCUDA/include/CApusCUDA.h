#ifndef CAPUSCUDA_H
#define CAPUSCUDA_H

#include <stddef.h>
#include <stdint.h>

/// The CUDA driver API as far as it is used. Nothing of the CUDA toolkit is needed to build: every function is found in the
/// driver library when that is opened, and answers ``APUS_CUDA_NOT_OPEN`` before.
///
/// Names, values and signatures are those of the CUDA 13 driver API reference; the `_v2` forms where there are two.

typedef int apus_cuda_result;
typedef int apus_cuda_device;

enum {
  APUS_CUDA_SUCCESS = 0,
  /// CUDA_ERROR_NOT_INITIALIZED
  APUS_CUDA_NOT_OPEN = 3,
};

/// Values of CUdevice_attribute.
enum {
  APUS_CUDA_CLOCK_RATE = 13,
  APUS_CUDA_MULTIPROCESSOR_COUNT = 16,
  APUS_CUDA_L2_CACHE_SIZE = 38,
  APUS_CUDA_COMPUTE_CAPABILITY_MAJOR = 75,
  APUS_CUDA_COMPUTE_CAPABILITY_MINOR = 76,
};

/// X(name, symbol, parameters, arguments)
#define APUS_CUDA_FUNCTIONS(X)                                                                                         \
  X(init, cuInit, (unsigned flags), (flags))                                                                           \
  X(driver_version, cuDriverGetVersion, (int *version), (version))                                                     \
  X(device_count, cuDeviceGetCount, (int *count), (count))                                                             \
  X(device_get, cuDeviceGet, (apus_cuda_device * device, int ordinal), (device, ordinal))                              \
  X(device_name, cuDeviceGetName, (char *name, int length, apus_cuda_device device), (name, length, device))           \
  X(device_memory, cuDeviceTotalMem_v2, (size_t *bytes, apus_cuda_device device), (bytes, device))                     \
  X(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, apus_cuda_device device),                      \
    (value, attribute, device))                                                                                        \
  X(error_text, cuGetErrorString, (apus_cuda_result error, const char **text), (error, text))

#define APUS_CUDA_DECLARE(name, symbol, parameters, arguments) apus_cuda_result apus_cuda_##name parameters;
APUS_CUDA_FUNCTIONS(APUS_CUDA_DECLARE)
#undef APUS_CUDA_DECLARE

/// Finds all functions in an opened driver library.
///
/// Returns NULL, or the name of the first function that the library lacks.
const char *apus_cuda_bind(void *library);

/// Ways in which libraries tell their version: as a result, or through one or two pointers.
size_t apus_version_result(void *function);
int apus_version_pointer(void *function);
void apus_version_pair(void *function, int *major, int *minor);

#endif
