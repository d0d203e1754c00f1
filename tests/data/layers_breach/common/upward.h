// A breach for the test of scripts/check_layers: common/ may not know policy/.
#include "policy/job.h"
