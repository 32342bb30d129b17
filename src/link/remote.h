/* remote.h - what the two ends of the corridor need of a model: its shape on the wire, and who has which weights. */
#ifndef TD_LINK_REMOTE_H
#define TD_LINK_REMOTE_H

#include "link/link.h"
#include "link/wire.h"

/* is_moe is borrowed from the model. */
td_shape td_shape_of(const td_model *model);
/* Bits of layers whose FFN is here, and of experts that are here in each of them. True: everything is here. */
bool td_weights_here(const td_model *model, uint8_t layers[64], uint8_t experts[512]);
/* "0-23,40" as bits below `count`. */
td_status td_bits_parse(const char *what, const char *text, int count, uint8_t *bits);

td_status td_link_remote_open(const td_link_options *options, td_link **out);

#endif
