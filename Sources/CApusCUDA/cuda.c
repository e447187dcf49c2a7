#include "CApusCUDA.h"

#include <dlfcn.h>

static struct {
#define DECLARE(name, symbol, parameters, arguments) apus_cuda_result(*name) parameters;
  APUS_CUDA_FUNCTIONS(DECLARE)
#undef DECLARE
} driver;

#define DEFINE(name, symbol, parameters, arguments)                                                                    \
  apus_cuda_result apus_cuda_##name parameters { return driver.name ? driver.name arguments : APUS_CUDA_NOT_OPEN; }
APUS_CUDA_FUNCTIONS(DEFINE)
#undef DEFINE

const char *apus_cuda_bind(void *library) {
#define BIND(name, symbol, parameters, arguments)                                                                      \
  *(void **)&driver.name = dlsym(library, #symbol);                                                                    \
  if (!driver.name) return #symbol;
  APUS_CUDA_FUNCTIONS(BIND)
#undef BIND
  return NULL;
}

size_t apus_version_result(void *function) { return ((size_t (*)(void))function)(); }

int apus_version_pointer(void *function) {
  int version = 0;
  ((int (*)(int *))function)(&version);
  return version;
}

void apus_version_pair(void *function, int *major, int *minor) { ((int (*)(int *, int *))function)(major, minor); }
