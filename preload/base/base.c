/* base.c - the two words that every wrapper looks at first. See base.h. Apart from init.c, so that a test can have them without a start. */
#include "base/base.h"

OTSHIM_TLS uint32_t otshim_quiet;
bool otshim_active;
