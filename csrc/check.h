// Checks of a call's arguments, before any kernel sees them.
#ifndef CAROUSEL_CHECK_H
#define CAROUSEL_CHECK_H

#include "carousel.h"

carousel_status check(const carousel_options*, const carousel_sizes*);
carousel_status check(const carousel_options&, const carousel_sizes&, const carousel_weights&);
carousel_status check(const carousel_options&, const carousel_sizes&, const carousel_forward_arrays&);
carousel_status check(const carousel_options&, const carousel_sizes&, const carousel_backward_arrays&, bool needs_reserve);

#endif
