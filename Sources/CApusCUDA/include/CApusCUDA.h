#ifndef CAPUSCUDA_H
#define CAPUSCUDA_H

#include <stddef.h>
#include <stdint.h>

/// The CUDA driver and NVRTC as far as they are used. Nothing of the CUDA toolkit is needed to build: every function is
/// found in its library when that is opened, and answers that it is not open before.
///
/// Names, values and signatures are those of the CUDA 13 references; the `_v2` forms where there are two.

typedef int apus_cuda_result;
typedef int apus_cuda_device;
/// An address of device memory, as wide as a pointer.
typedef void *apus_cuda_address;
typedef struct apus_cuda_context *apus_cuda_context;
typedef struct apus_cuda_module *apus_cuda_module;
typedef struct apus_cuda_function *apus_cuda_function;
typedef struct apus_cuda_stream *apus_cuda_stream;
typedef struct apus_cuda_event *apus_cuda_event;
typedef struct apus_cuda_pool *apus_cuda_pool;
typedef struct apus_cuda_graph *apus_cuda_graph;
typedef struct apus_cuda_graph_exec *apus_cuda_graph_exec;

enum {
  APUS_CUDA_SUCCESS = 0,
  APUS_CUDA_OUT_OF_MEMORY = 2,
  /// CUDA_ERROR_NOT_INITIALIZED
  APUS_CUDA_NOT_OPEN = 3,
  APUS_CUDA_NOT_READY = 600,
};

/// Values of CUdevice_attribute.
enum {
  APUS_CUDA_CLOCK_RATE = 13,
  APUS_CUDA_MULTIPROCESSOR_COUNT = 16,
  APUS_CUDA_L2_CACHE_SIZE = 38,
  APUS_CUDA_COMPUTE_CAPABILITY_MAJOR = 75,
  APUS_CUDA_COMPUTE_CAPABILITY_MINOR = 76,
};

/// Values of CUfunction_attribute, CUmemPool_attribute, CUstream_flags, CUevent_flags, CUstreamCaptureMode,
/// CUlaunchAttributeID.
enum {
  APUS_CUDA_FUNCTION_MAX_DYNAMIC_SHARED_BYTES = 8,
  APUS_CUDA_POOL_RELEASE_THRESHOLD = 4,
  APUS_CUDA_POOL_RESERVED = 5,
  APUS_CUDA_POOL_USED = 7,
  APUS_CUDA_POOL_USED_PEAK = 8,
  APUS_CUDA_STREAM_NON_BLOCKING = 1,
  APUS_CUDA_EVENT_DEFAULT = 0,
  APUS_CUDA_EVENT_BLOCKING = 1,
  APUS_CUDA_EVENT_UNTIMED = 2,
  APUS_CUDA_MANAGED_GLOBAL = 1,
  APUS_CUDA_ADVISE_PREFERRED = 3,
  APUS_CUDA_ADVISE_ACCESSED = 5,
  APUS_CUDA_CAPTURE_THREAD_LOCAL = 1,
  APUS_CUDA_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6,
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
  X(error_text, cuGetErrorString, (apus_cuda_result error, const char **text), (error, text))                          \
  X(context_retain, cuDevicePrimaryCtxRetain, (apus_cuda_context * context, apus_cuda_device device),                  \
    (context, device))                                                                                                 \
  X(context_release, cuDevicePrimaryCtxRelease_v2, (apus_cuda_device device), (device))                                \
  X(context_set_current, cuCtxSetCurrent, (apus_cuda_context context), (context))                                      \
  X(memory_info, cuMemGetInfo_v2, (size_t *available, size_t *all), (available, all))                                  \
  X(pool_create, cuMemPoolCreate, (apus_cuda_pool * pool, const struct apus_cuda_pool_properties *properties),         \
    (pool, properties))                                                                                                \
  X(pool_destroy, cuMemPoolDestroy, (apus_cuda_pool pool), (pool))                                                     \
  X(pool_trim, cuMemPoolTrimTo, (apus_cuda_pool pool, size_t kept), (pool, kept))                                      \
  X(pool_get, cuMemPoolGetAttribute, (apus_cuda_pool pool, int attribute, void *value), (pool, attribute, value))      \
  X(pool_set, cuMemPoolSetAttribute, (apus_cuda_pool pool, int attribute, void *value), (pool, attribute, value))      \
  X(allocate, cuMemAllocFromPoolAsync,                                                                                 \
    (apus_cuda_address * address, size_t bytes, apus_cuda_pool pool, apus_cuda_stream stream),                         \
    (address, bytes, pool, stream))                                                                                    \
  X(free, cuMemFreeAsync, (apus_cuda_address address, apus_cuda_stream stream), (address, stream))                     \
  X(host_allocate, cuMemHostAlloc, (void **address, size_t bytes, unsigned flags), (address, bytes, flags))            \
  X(host_free, cuMemFreeHost, (void *address), (address))                                                              \
  X(managed_allocate, cuMemAllocManaged, (apus_cuda_address * address, size_t bytes, unsigned flags),                  \
    (address, bytes, flags))                                                                                           \
  X(managed_free, cuMemFree_v2, (apus_cuda_address address), (address))                                                \
  X(managed_advise, cuMemAdvise, (apus_cuda_address address, size_t bytes, int advice, apus_cuda_device device),       \
    (address, bytes, advice, device))                                                                                  \
  X(managed_prefetch, cuMemPrefetchAsync,                                                                              \
    (apus_cuda_address address, size_t bytes, apus_cuda_device device, apus_cuda_stream stream),                       \
    (address, bytes, device, stream))                                                                                  \
  X(copy, cuMemcpyDtoDAsync_v2,                                                                                        \
    (apus_cuda_address target, apus_cuda_address source, size_t bytes, apus_cuda_stream stream),                       \
    (target, source, bytes, stream))                                                                                   \
  X(upload, cuMemcpyHtoDAsync_v2,                                                                                      \
    (apus_cuda_address target, const void *source, size_t bytes, apus_cuda_stream stream),                             \
    (target, source, bytes, stream))                                                                                   \
  X(download, cuMemcpyDtoHAsync_v2,                                                                                    \
    (void *target, apus_cuda_address source, size_t bytes, apus_cuda_stream stream), (target, source, bytes, stream))  \
  X(fill, cuMemsetD8Async, (apus_cuda_address target, unsigned char byte, size_t bytes, apus_cuda_stream stream),      \
    (target, byte, bytes, stream))                                                                                     \
  X(module_load, cuModuleLoadData, (apus_cuda_module * module, const void *image), (module, image))                    \
  X(module_unload, cuModuleUnload, (apus_cuda_module module), (module))                                                \
  X(module_function, cuModuleGetFunction, (apus_cuda_function * function, apus_cuda_module module, const char *name),  \
    (function, module, name))                                                                                          \
  X(function_set, cuFuncSetAttribute, (apus_cuda_function function, int attribute, int value),                         \
    (function, attribute, value))                                                                                      \
  X(launch_kernel, cuLaunchKernelEx,                                                                                   \
    (const struct apus_cuda_launch_config *config, apus_cuda_function function, void **parameters, void **extra),      \
    (config, function, parameters, extra))                                                                             \
  X(tensor_map, cuTensorMapEncodeTiled,                                                                                \
    (void *map, int type, unsigned rank, void *address, const uint64_t *sizes, const uint64_t *strides,                \
     const unsigned *box, const unsigned *element_strides, int interleave, int swizzle, int promotion, int fill),      \
    (map, type, rank, address, sizes, strides, box, element_strides, interleave, swizzle, promotion, fill))            \
  X(window_map, cuTensorMapEncodeIm2col,                                                                               \
    (void *map, int type, unsigned rank, void *address, const uint64_t *sizes, const uint64_t *strides,                \
     const int *lower, const int *upper, unsigned channels, unsigned places, const unsigned *element_strides,          \
     int interleave, int swizzle, int promotion, int fill),                                                            \
    (map, type, rank, address, sizes, strides, lower, upper, channels, places, element_strides, interleave, swizzle,   \
     promotion, fill))                                                                                                 \
  X(priority_range, cuCtxGetStreamPriorityRange, (int *least, int *greatest), (least, greatest))                       \
  X(stream_create, cuStreamCreateWithPriority, (apus_cuda_stream * stream, unsigned flags, int priority),              \
    (stream, flags, priority))                                                                                         \
  X(stream_priority, cuStreamGetPriority, (apus_cuda_stream stream, int *priority), (stream, priority))                \
  X(stream_destroy, cuStreamDestroy_v2, (apus_cuda_stream stream), (stream))                                           \
  X(stream_synchronize, cuStreamSynchronize, (apus_cuda_stream stream), (stream))                                      \
  X(stream_query, cuStreamQuery, (apus_cuda_stream stream), (stream))                                                  \
  X(stream_wait, cuStreamWaitEvent, (apus_cuda_stream stream, apus_cuda_event event, unsigned flags),                  \
    (stream, event, flags))                                                                                            \
  X(event_query, cuEventQuery, (apus_cuda_event event), (event))                                                       \
  X(event_create, cuEventCreate, (apus_cuda_event * event, unsigned flags), (event, flags))                            \
  X(event_destroy, cuEventDestroy_v2, (apus_cuda_event event), (event))                                                \
  X(event_record, cuEventRecord, (apus_cuda_event event, apus_cuda_stream stream), (event, stream))                    \
  X(event_synchronize, cuEventSynchronize, (apus_cuda_event event), (event))                                           \
  X(event_elapsed, cuEventElapsedTime, (float *milliseconds, apus_cuda_event start, apus_cuda_event end),           \
    (milliseconds, start, end))                                                                                        \
  X(capture_begin, cuStreamBeginCapture_v2, (apus_cuda_stream stream, int mode), (stream, mode))                       \
  X(capture_end, cuStreamEndCapture, (apus_cuda_stream stream, apus_cuda_graph * graph), (stream, graph))              \
  X(graph_instantiate, cuGraphInstantiateWithFlags,                                                                    \
    (apus_cuda_graph_exec * exec, apus_cuda_graph graph, unsigned long long flags), (exec, graph, flags))              \
  X(graph_launch, cuGraphLaunch, (apus_cuda_graph_exec exec, apus_cuda_stream stream), (exec, stream))                 \
  X(graph_update, cuGraphExecUpdate_v2, (apus_cuda_graph_exec exec, apus_cuda_graph graph, void *info),                \
    (exec, graph, info))                                                                                               \
  X(graph_destroy, cuGraphDestroy, (apus_cuda_graph graph), (graph))                                                   \
  X(graph_exec_destroy, cuGraphExecDestroy, (apus_cuda_graph_exec exec), (exec))

/// Values of CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion.
enum {
  APUS_CUDA_MAP_F16 = 6,
  APUS_CUDA_MAP_F32 = 7,
  APUS_CUDA_MAP_BF16 = 9,
  APUS_CUDA_MAP_SWIZZLE_128 = 3,
  APUS_CUDA_MAP_PROMOTE_256 = 3,
};

/// CUlaunchAttribute: the identifier, then a value in 64 bytes from byte 8.
struct apus_cuda_launch_attribute {
  int identifier;
  char padding[4];
  union {
    int number;
    char bytes[64];
  } value;
};

/// CUlaunchConfig.
struct apus_cuda_launch_config {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  apus_cuda_stream stream;
  struct apus_cuda_launch_attribute *attributes;
  unsigned attribute_count;
};

/// CUmemPoolProps.
struct apus_cuda_pool_properties {
  int allocation_type;
  int handle_types;
  int location_type;
  int location;
  void *security_attributes;
  size_t largest;
  unsigned short usage;
  unsigned char reserved[54];
};

#define APUS_CUDA_DECLARE(name, symbol, parameters, arguments) apus_cuda_result apus_cuda_##name parameters;
APUS_CUDA_FUNCTIONS(APUS_CUDA_DECLARE)
#undef APUS_CUDA_DECLARE

/// Finds all functions in an opened driver library.
///
/// Returns NULL, or the name of the first function that the library lacks.
const char *apus_cuda_bind(void *library);

/// Makes a pool of a device's own memory.
apus_cuda_result apus_cuda_make_pool(apus_cuda_pool *pool, apus_cuda_device device);

/// Launches a kernel whose arguments are a table of addresses and, unless they are NULL, one of integers and one of maps;
/// there are no maps without integers.
///
/// With `overlaps`, blocks may start before the kernel in front has ended; the kernel waits by itself.
apus_cuda_result apus_cuda_launch(
    apus_cuda_function function, unsigned blocks, unsigned threads, unsigned shared_bytes, apus_cuda_stream stream,
    const void *buffers, const void *parameters, const void *maps, int overlaps);

// NVRTC

typedef struct apus_nvrtc_program *apus_nvrtc_program;

enum {
  /// NVRTC_ERROR_INTERNAL_ERROR
  APUS_NVRTC_NOT_OPEN = 11,
};

#define APUS_NVRTC_FUNCTIONS(X)                                                                                        \
  X(version, nvrtcVersion, (int *major, int *minor), (major, minor))                                                   \
  X(create, nvrtcCreateProgram,                                                                                        \
    (apus_nvrtc_program * program, const char *source, const char *name, int header_count,                             \
     const char *const *headers, const char *const *include_names),                                                    \
    (program, source, name, header_count, headers, include_names))                                                     \
  X(destroy, nvrtcDestroyProgram, (apus_nvrtc_program * program), (program))                                           \
  X(compile, nvrtcCompileProgram, (apus_nvrtc_program program, int option_count, const char *const *options),          \
    (program, option_count, options))                                                                                  \
  X(log_size, nvrtcGetProgramLogSize, (apus_nvrtc_program program, size_t *bytes), (program, bytes))                   \
  X(log, nvrtcGetProgramLog, (apus_nvrtc_program program, char *log), (program, log))                                  \
  X(cubin_size, nvrtcGetCUBINSize, (apus_nvrtc_program program, size_t *bytes), (program, bytes))                      \
  X(cubin, nvrtcGetCUBIN, (apus_nvrtc_program program, char *cubin), (program, cubin))                                 \
  X(ptx_size, nvrtcGetPTXSize, (apus_nvrtc_program program, size_t *bytes), (program, bytes))                          \
  X(ptx, nvrtcGetPTX, (apus_nvrtc_program program, char *ptx), (program, ptx))

#define APUS_NVRTC_DECLARE(name, symbol, parameters, arguments) int apus_nvrtc_##name parameters;
APUS_NVRTC_FUNCTIONS(APUS_NVRTC_DECLARE)
#undef APUS_NVRTC_DECLARE

/// Names under which the library may be found, in order of preference; NULL past the last.
const char *apus_nvrtc_name(int index);

/// As ``apus_cuda_bind``.
const char *apus_nvrtc_bind(void *library);

// cuBLASLt

typedef struct apus_cublaslt *apus_cublaslt;
typedef struct apus_cublaslt_product *apus_cublaslt_product;
typedef struct apus_cublaslt_layout *apus_cublaslt_layout;
typedef struct apus_cublaslt_preference *apus_cublaslt_preference;

enum {
  APUS_CUBLASLT_SUCCESS = 0,
  /// CUBLAS_STATUS_NOT_INITIALIZED
  APUS_CUBLASLT_NOT_OPEN = 1,
};

/// Values of cudaDataType and cublasComputeType_t.
enum {
  APUS_CUBLASLT_F32 = 0,
  APUS_CUBLASLT_F64 = 1,
  APUS_CUBLASLT_F16 = 2,
  APUS_CUBLASLT_BF16 = 14,
  APUS_CUBLASLT_COMPUTE_F32 = 68,
  APUS_CUBLASLT_COMPUTE_F64 = 70,
};

/// Values of cublasLtMatmulDescAttributes_t, cublasOperation_t, cublasLtEpilogue_t.
enum {
  APUS_CUBLASLT_PRODUCT_TRANSPOSES_LEFT = 3,
  APUS_CUBLASLT_PRODUCT_EPILOGUE = 7,
  APUS_CUBLASLT_PRODUCT_BIAS = 8,
  APUS_CUBLASLT_TRANSPOSED = 1,
  APUS_CUBLASLT_EPILOGUE_NONE = 1,
  APUS_CUBLASLT_EPILOGUE_RELU = 2,
  APUS_CUBLASLT_EPILOGUE_BIAS = 4,
  APUS_CUBLASLT_EPILOGUE_GELU = 32,
};

/// Values of cublasLtMatrixLayoutAttribute_t, cublasLtMatmulPreferenceAttributes_t.
enum {
  APUS_CUBLASLT_LAYOUT_BATCHES = 5,
  APUS_CUBLASLT_LAYOUT_BATCH_STRIDE = 6,
  APUS_CUBLASLT_PREFERENCE_WORKSPACE = 1,
  APUS_CUBLASLT_PREFERENCE_ALIGNMENT_A = 5,
  APUS_CUBLASLT_PREFERENCE_ALIGNMENT_D = 8,
};

/// cublasLtMatmulHeuristicResult_t, which begins with the algorithm (cublasLtMatmulAlgo_t).
typedef struct {
  uint64_t algorithm[8];
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
} apus_cublaslt_suggestion;

#define APUS_CUBLASLT_FUNCTIONS(X)                                                                                     \
  X(create, cublasLtCreate, (apus_cublaslt * handle), (handle))                                                        \
  X(destroy, cublasLtDestroy, (apus_cublaslt handle), (handle))                                                        \
  X(product_create, cublasLtMatmulDescCreate, (apus_cublaslt_product * product, int compute, int scale),               \
    (product, compute, scale))                                                                                         \
  X(product_destroy, cublasLtMatmulDescDestroy, (apus_cublaslt_product product), (product))                            \
  X(product_set, cublasLtMatmulDescSetAttribute,                                                                       \
    (apus_cublaslt_product product, int attribute, const void *value, size_t bytes),                                   \
    (product, attribute, value, bytes))                                                                                \
  X(layout_create, cublasLtMatrixLayoutCreate,                                                                         \
    (apus_cublaslt_layout * layout, int type, uint64_t rows, uint64_t columns, int64_t stride),                        \
    (layout, type, rows, columns, stride))                                                                             \
  X(layout_destroy, cublasLtMatrixLayoutDestroy, (apus_cublaslt_layout layout), (layout))                              \
  X(layout_set, cublasLtMatrixLayoutSetAttribute,                                                                      \
    (apus_cublaslt_layout layout, int attribute, const void *value, size_t bytes), (layout, attribute, value, bytes))  \
  X(preference_create, cublasLtMatmulPreferenceCreate, (apus_cublaslt_preference * preference), (preference))          \
  X(preference_destroy, cublasLtMatmulPreferenceDestroy, (apus_cublaslt_preference preference), (preference))          \
  X(preference_set, cublasLtMatmulPreferenceSetAttribute,                                                              \
    (apus_cublaslt_preference preference, int attribute, const void *value, size_t bytes),                             \
    (preference, attribute, value, bytes))                                                                             \
  X(suggest, cublasLtMatmulAlgoGetHeuristic,                                                                           \
    (apus_cublaslt handle, apus_cublaslt_product product, apus_cublaslt_layout a, apus_cublaslt_layout b,              \
     apus_cublaslt_layout c, apus_cublaslt_layout d, apus_cublaslt_preference preference, int count,                   \
     apus_cublaslt_suggestion *suggestions, int *found),                                                               \
    (handle, product, a, b, c, d, preference, count, suggestions, found))                                              \
  X(multiply, cublasLtMatmul,                                                                                          \
    (apus_cublaslt handle, apus_cublaslt_product product, const void *alpha, const void *a, apus_cublaslt_layout a_is, \
     const void *b, apus_cublaslt_layout b_is, const void *beta, const void *c, apus_cublaslt_layout c_is, void *d,    \
     apus_cublaslt_layout d_is, const void *algorithm, void *workspace, size_t workspace_bytes,                        \
     apus_cuda_stream stream),                                                                                         \
    (handle, product, alpha, a, a_is, b, b_is, beta, c, c_is, d, d_is, algorithm, workspace, workspace_bytes, stream))

#define APUS_CUBLASLT_DECLARE(name, symbol, parameters, arguments) int apus_cublaslt_##name parameters;
APUS_CUBLASLT_FUNCTIONS(APUS_CUBLASLT_DECLARE)
#undef APUS_CUBLASLT_DECLARE

/// As ``apus_cuda_bind``.
const char *apus_cublaslt_bind(void *library);

/// What the library says of a result; NULL before it is open.
const char *apus_cublaslt_text(int result);

// cuDNN

typedef struct apus_cudnn *apus_cudnn;
typedef void *apus_cudnn_descriptor;

enum {
  APUS_CUDNN_SUCCESS = 0,
  /// CUDNN_STATUS_NOT_INITIALIZED
  APUS_CUDNN_NOT_OPEN = 1001,
};

/// Values of cudnnBackendDescriptorType_t.
enum {
  APUS_CUDNN_POINTWISE = 0,
  APUS_CUDNN_CONVOLUTION = 1,
  APUS_CUDNN_ENGINE = 2,
  APUS_CUDNN_CONFIGURATION = 3,
  APUS_CUDNN_HEURISTIC = 4,
  APUS_CUDNN_PLAN = 5,
  APUS_CUDNN_OPERATION_CONVOLUTION = 10,
  APUS_CUDNN_OPERATION_POINTWISE = 13,
  APUS_CUDNN_OPERATION_GRAPH = 15,
  APUS_CUDNN_VARIANT_PACK = 16,
  APUS_CUDNN_TENSOR = 17,
};

/// Values of cudnnBackendAttributeName_t.
enum {
  APUS_CUDNN_POINTWISE_MODE = 0,
  APUS_CUDNN_POINTWISE_COMPUTE = 1,
  APUS_CUDNN_CONVOLUTION_COMPUTE = 100,
  APUS_CUDNN_CONVOLUTION_MODE = 101,
  APUS_CUDNN_CONVOLUTION_DILATIONS = 102,
  APUS_CUDNN_CONVOLUTION_STRIDES = 103,
  APUS_CUDNN_CONVOLUTION_PADS_BEHIND = 104,
  APUS_CUDNN_CONVOLUTION_PADS = 105,
  APUS_CUDNN_CONVOLUTION_AXES = 106,
  APUS_CUDNN_HEURISTIC_MODE = 200,
  APUS_CUDNN_HEURISTIC_GRAPH = 201,
  APUS_CUDNN_HEURISTIC_RESULTS = 202,
  APUS_CUDNN_CONFIGURATION_ENGINE = 300,
  APUS_CUDNN_PLAN_HANDLE = 400,
  APUS_CUDNN_PLAN_CONFIGURATION = 401,
  APUS_CUDNN_PLAN_WORKSPACE = 402,
  APUS_CUDNN_OPERATION_CONVOLUTION_ALPHA = 700,
  APUS_CUDNN_OPERATION_CONVOLUTION_BETA = 701,
  APUS_CUDNN_OPERATION_CONVOLUTION_WINDOW = 702,
  APUS_CUDNN_OPERATION_CONVOLUTION_WEIGHTS = 703,
  APUS_CUDNN_OPERATION_CONVOLUTION_IMAGE = 704,
  APUS_CUDNN_OPERATION_CONVOLUTION_RESULT = 705,
  APUS_CUDNN_OPERATION_POINTWISE_FUNCTION = 750,
  APUS_CUDNN_OPERATION_POINTWISE_X = 751,
  APUS_CUDNN_OPERATION_POINTWISE_B = 752,
  APUS_CUDNN_OPERATION_POINTWISE_RESULT = 753,
  APUS_CUDNN_GRAPH_HANDLE = 800,
  APUS_CUDNN_GRAPH_OPERATIONS = 801,
  APUS_CUDNN_TENSOR_ALIGNMENT = 900,
  APUS_CUDNN_TENSOR_TYPE = 901,
  APUS_CUDNN_TENSOR_SIZES = 902,
  APUS_CUDNN_TENSOR_STRIDES = 903,
  APUS_CUDNN_TENSOR_ID = 906,
  APUS_CUDNN_TENSOR_IS_VIRTUAL = 907,
  APUS_CUDNN_PACK_IDS = 1000,
  APUS_CUDNN_PACK_POINTERS = 1001,
  APUS_CUDNN_PACK_WORKSPACE = 1003,
  APUS_CUDNN_ENGINE_NOTES = 1303,
};

/// Values of cudnnBackendAttributeType_t.
enum {
  APUS_CUDNN_TYPE_HANDLE = 0,
  APUS_CUDNN_TYPE_DATA_TYPE = 1,
  APUS_CUDNN_TYPE_BOOL = 2,
  APUS_CUDNN_TYPE_I64 = 3,
  APUS_CUDNN_TYPE_F32 = 4,
  APUS_CUDNN_TYPE_POINTER = 6,
  APUS_CUDNN_TYPE_CONVOLUTION_MODE = 7,
  APUS_CUDNN_TYPE_HEURISTIC_MODE = 8,
  APUS_CUDNN_TYPE_NUMERICAL_NOTE = 11,
  APUS_CUDNN_TYPE_POINTWISE_MODE = 14,
  APUS_CUDNN_TYPE_DESCRIPTOR = 15,
};

/// Values of cudnnDataType_t, cudnnConvolutionMode_t, cudnnPointwiseMode_t, cudnnBackendHeurMode_t,
/// cudnnBackendNumericalNote_t.
enum {
  APUS_CUDNN_F32 = 0,
  APUS_CUDNN_F16 = 2,
  APUS_CUDNN_BF16 = 9,
  APUS_CUDNN_CROSS_CORRELATION = 1,
  APUS_CUDNN_POINTWISE_ADD = 0,
  APUS_CUDNN_POINTWISE_RELU = 100,
  APUS_CUDNN_HEURISTIC_FALLBACK = 2,
  APUS_CUDNN_HEURISTIC_A = 3,
  APUS_CUDNN_NOTE_TENSOR_CORES = 0,
  APUS_CUDNN_NOTE_CONVERTS_DOWN = 1,
  APUS_CUDNN_NOTE_SUMS_SHORT = 2,
  APUS_CUDNN_NOTE_VARIES = 4,
};

#define APUS_CUDNN_FUNCTIONS(X)                                                                                        \
  X(create, cudnnCreate, (apus_cudnn * handle), (handle))                                                              \
  X(destroy, cudnnDestroy, (apus_cudnn handle), (handle))                                                              \
  X(set_stream, cudnnSetStream, (apus_cudnn handle, apus_cuda_stream stream), (handle, stream))                        \
  X(descriptor_create, cudnnBackendCreateDescriptor, (int kind, apus_cudnn_descriptor *descriptor),                    \
    (kind, descriptor))                                                                                                \
  X(descriptor_destroy, cudnnBackendDestroyDescriptor, (apus_cudnn_descriptor descriptor), (descriptor))               \
  X(descriptor_finalize, cudnnBackendFinalize, (apus_cudnn_descriptor descriptor), (descriptor))                       \
  X(descriptor_set, cudnnBackendSetAttribute,                                                                          \
    (apus_cudnn_descriptor descriptor, int attribute, int type, int64_t count, const void *values),                    \
    (descriptor, attribute, type, count, values))                                                                      \
  X(descriptor_get, cudnnBackendGetAttribute,                                                                          \
    (apus_cudnn_descriptor descriptor, int attribute, int type, int64_t capacity, int64_t *count, void *values),       \
    (descriptor, attribute, type, capacity, count, values))                                                            \
  X(execute, cudnnBackendExecute, (apus_cudnn handle, apus_cudnn_descriptor plan, apus_cudnn_descriptor pack),         \
    (handle, plan, pack))

#define APUS_CUDNN_DECLARE(name, symbol, parameters, arguments) int apus_cudnn_##name parameters;
APUS_CUDNN_FUNCTIONS(APUS_CUDNN_DECLARE)
#undef APUS_CUDNN_DECLARE

/// As ``apus_cuda_bind``.
const char *apus_cudnn_bind(void *library);

/// What the library says of a result; NULL before it is open.
const char *apus_cudnn_text(int result);

/// Ways in which libraries tell their version: as a result, or through one or two pointers.
size_t apus_version_result(void *function);
int apus_version_pointer(void *function);
void apus_version_pair(void *function, int *major, int *minor);

#endif
