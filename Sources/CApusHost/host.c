#include "CApusHost.h"
