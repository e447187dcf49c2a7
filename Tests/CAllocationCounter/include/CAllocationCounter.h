#ifndef CALLOCATIONCOUNTER_H
#define CALLOCATIONCOUNTER_H

#include <stdint.h>

/// Number of heap allocations that the calling thread has made so far.
int64_t apus_allocation_count(void);

#endif
