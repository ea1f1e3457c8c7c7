/* record_check.h - is a record (a private copy) one that the library can have written? Pure functions over bytes. */
#ifndef OTSHIM_INGEST_RECORD_CHECK_H
#define OTSHIM_INGEST_RECORD_CHECK_H

#include <otshim/record.h>
#include <stdbool.h>
#include <stddef.h>

/* payload: what follows struct otshim_rec, len bytes. True: *rec is a copy, *attrs points to its rec->attr_bytes bytes of well-formed
 * attributes inside payload. */
bool record_check_span(const uint8_t *payload, size_t len, struct otshim_span_rec *rec, const uint8_t **attrs);
bool record_check_log(const uint8_t *payload, size_t len, struct otshim_log_rec *rec, const uint8_t **attrs);

/* Each header and its text inside the bytes, padding included; sizes of the keys that we know within limits.h. */
bool record_check_attrs(const uint8_t *attrs, size_t len);

#endif
