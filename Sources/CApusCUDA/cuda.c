#include "CApusCUDA.h"

#include <dlfcn.h>

_Static_assert(sizeof(struct apus_cuda_launch_attribute) == 72, "CUlaunchAttribute has 72 bytes");
_Static_assert(sizeof(struct apus_cuda_pool_properties) == 88, "CUmemPoolProps has 88 bytes");
_Static_assert(sizeof(apus_cublaslt_suggestion) == 96, "cublasLtMatmulHeuristicResult_t has 96 bytes");
_Static_assert(sizeof(struct apus_cuda_launch_config) == 56, "CUlaunchConfig has 56 bytes");

#define POINTER(name, symbol, parameters, arguments) int(*name) parameters;
#define BIND(name, symbol, parameters, arguments)                                                                      \
  *(void **)&table.name = dlsym(library, #symbol);                                                                     \
  if (!table.name) return #symbol;

static struct {
  APUS_CUDA_FUNCTIONS(POINTER)
} driver;

#define DEFINE(name, symbol, parameters, arguments)                                                                    \
  apus_cuda_result apus_cuda_##name parameters { return driver.name ? driver.name arguments : APUS_CUDA_NOT_OPEN; }
APUS_CUDA_FUNCTIONS(DEFINE)
#undef DEFINE

const char *apus_cuda_bind(void *library) {
#define table driver
  APUS_CUDA_FUNCTIONS(BIND)
#undef table
  return NULL;
}

apus_cuda_result apus_cuda_make_pool(apus_cuda_pool *pool, apus_cuda_device device) {
  // CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE
  const struct apus_cuda_pool_properties properties = {.allocation_type = 1, .location_type = 1, .location = device};
  return apus_cuda_pool_create(pool, &properties);
}

apus_cuda_result apus_cuda_launch(
    apus_cuda_function function, unsigned blocks, unsigned threads, unsigned shared_bytes, apus_cuda_stream stream,
    const void *buffers, const void *parameters, const void *maps, int overlaps) {
  struct apus_cuda_launch_attribute overlap = {
      .identifier = APUS_CUDA_LAUNCH_PROGRAMMATIC_SERIALIZATION, .value.number = 1};
  const struct apus_cuda_launch_config config = {
      .grid = {blocks, 1, 1}, .block = {threads, 1, 1}, .shared_bytes = shared_bytes, .stream = stream,
      .attributes = &overlap, .attribute_count = overlaps ? 1 : 0};
  void *arguments[3] = {(void *)buffers, (void *)parameters, (void *)maps};
  return apus_cuda_launch_kernel(&config, function, arguments, NULL);
}

static struct {
  APUS_NVRTC_FUNCTIONS(POINTER)
} nvrtc;

#define DEFINE(name, symbol, parameters, arguments)                                                                    \
  int apus_nvrtc_##name parameters { return nvrtc.name ? nvrtc.name arguments : APUS_NVRTC_NOT_OPEN; }
APUS_NVRTC_FUNCTIONS(DEFINE)
#undef DEFINE

const char *apus_nvrtc_name(int index) {
  static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
  return index >= 0 && index < (int)(sizeof names / sizeof *names) ? names[index] : NULL;
}

const char *apus_nvrtc_bind(void *library) {
#define table nvrtc
  APUS_NVRTC_FUNCTIONS(BIND)
#undef table
  return NULL;
}

static struct {
  APUS_CUBLASLT_FUNCTIONS(POINTER)
  const char *(*text)(int);
} cublaslt;

#define DEFINE(name, symbol, parameters, arguments)                                                                    \
  int apus_cublaslt_##name parameters { return cublaslt.name ? cublaslt.name arguments : APUS_CUBLASLT_NOT_OPEN; }
APUS_CUBLASLT_FUNCTIONS(DEFINE)
#undef DEFINE

const char *apus_cublaslt_bind(void *library) {
#define table cublaslt
  APUS_CUBLASLT_FUNCTIONS(BIND)
  BIND(text, cublasLtGetStatusString, , )
#undef table
  return NULL;
}

const char *apus_cublaslt_text(int result) { return cublaslt.text ? cublaslt.text(result) : NULL; }

static struct {
  APUS_CUDNN_FUNCTIONS(POINTER)
  const char *(*text)(int);
} cudnn;

#define DEFINE(name, symbol, parameters, arguments)                                                                    \
  int apus_cudnn_##name parameters { return cudnn.name ? cudnn.name arguments : APUS_CUDNN_NOT_OPEN; }
APUS_CUDNN_FUNCTIONS(DEFINE)
#undef DEFINE

const char *apus_cudnn_bind(void *library) {
#define table cudnn
  APUS_CUDNN_FUNCTIONS(BIND)
  BIND(text, cudnnGetErrorString, , )
#undef table
  return NULL;
}

const char *apus_cudnn_text(int result) { return cudnn.text ? cudnn.text(result) : NULL; }

size_t apus_version_result(void *function) { return ((size_t (*)(void))function)(); }

int apus_version_pointer(void *function) {
  int version = 0;
  ((int (*)(int *))function)(&version);
  return version;
}

void apus_version_pair(void *function, int *major, int *minor) { ((int (*)(int *, int *))function)(major, minor); }
