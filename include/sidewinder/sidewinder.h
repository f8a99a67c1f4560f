// Everything a user of the library needs.
#ifndef SIDEWINDER_SIDEWINDER_H_
#define SIDEWINDER_SIDEWINDER_H_

#include "sidewinder/chat_template.h"  // IWYU pragma: export
#include "sidewinder/engine.h"         // IWYU pragma: export
#include "sidewinder/model.h"          // IWYU pragma: export
#include "sidewinder/system.h"         // IWYU pragma: export
#include "sidewinder/tokenizer.h"      // IWYU pragma: export
#include "sidewinder/tuning.h"         // IWYU pragma: export

#endif  // SIDEWINDER_SIDEWINDER_H_
