/* version.h -- the version of all three programs. */
#ifndef TERN_BROKER_BASE_VERSION_H
#define TERN_BROKER_BASE_VERSION_H

#define TERN_VERSION "0.1.0"

#endif
