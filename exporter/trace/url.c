/* url.c - request targets, and what of a URL is nobody's business.
 *
 * The semantic conventions (url.full, url.query) want user name and password out, and the values of some query keys that sign or
 * authorise a request. What the program sent is shown otherwise as it is. */
#include "trace/facts.h"

#include <string.h>

static const char *find(struct bytes in, const char *text)
{
    return memmem(in.at, in.len, text, strlen(text));
}

static struct bytes from_to(const char *from, const char *to)
{
    return bytes_of(from, (size_t)(to - from));
}

static bool is_scheme(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i] | 0x20;
        bool letter = c >= 'a' && c <= 'z', other = (text.at[i] >= '0' && text.at[i] <= '9') || strchr("+-.", text.at[i]) != NULL;
        if (text.at[i] == '\0' || !(letter || (i > 0 && other)))
            return false;
    }
    return text.len > 0;
}

struct url url_of_target(struct bytes target, bool connect)
{
    struct url url = {NO_BYTES, NO_BYTES, NO_BYTES, NO_BYTES, NO_BYTES};
    const char *end = target.at + target.len;
    if (connect) {
        url.authority = target;
        return url;
    }
    struct bytes rest = target;
    const char *slashes = target.len > 0 && *target.at != '/' ? find(target, "://") : NULL;
    if (slashes != NULL && is_scheme(from_to(target.at, slashes))) {
        url.scheme = from_to(target.at, slashes);
        const char *at = slashes + 3;
        while (at < end && *at != '/' && *at != '?' && *at != '#')
            at++;
        url.authority = from_to(slashes + 3, at);
        rest = from_to(at, end);
    }
    const char *hash = rest.len > 0 ? memchr(rest.at, '#', rest.len) : NULL; /* is not sent, or by mistake */
    if (hash != NULL)
        rest = from_to(rest.at, hash);
    const char *question = rest.len > 0 ? memchr(rest.at, '?', rest.len) : NULL;
    url.rest = rest;
    url.path = question != NULL ? from_to(rest.at, question) : rest;
    if (question != NULL)
        url.query = from_to(question + 1, rest.at + rest.len);
    return url;
}

/* The keys that the conventions name; their case is part of the name. */
static bool is_secret(struct bytes key)
{
    static const char *const secrets[] = {"AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"};
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        if (key.len == strlen(secrets[i]) && memcmp(key.at, secrets[i], key.len) == 0)
            return true;
    return false;
}

const char *url_redacted(struct draft *draft, struct bytes text)
{
    static const char redacted[] = "REDACTED";
    char out[2 * DRAFT_VALUE_MAX];
    size_t len = 0, i = 0;
    while (i < text.len && len < DRAFT_VALUE_MAX) {
        bool starts = i == 0 || text.at[i - 1] == '?' || text.at[i - 1] == '&';
        const char *equals = starts ? memchr(text.at + i, '=', text.len - i) : NULL;
        if (equals == NULL || !is_secret(from_to(text.at + i, equals))) {
            out[len++] = text.at[i++];
            continue;
        }
        size_t key = (size_t)(equals + 1 - text.at) - i;
        memcpy(out + len, text.at + i, key);
        memcpy(out + len + key, redacted, sizeof redacted - 1);
        len += key + sizeof redacted - 1;
        for (i += key; i < text.len && text.at[i] != '&' && text.at[i] != '#';)
            i++;
    }
    return draft_text(draft, out, len);
}

struct bytes url_host_part(struct bytes authority, bool *had_credentials)
{
    const char *at = authority.len > 0 ? memrchr(authority.at, '@', authority.len) : NULL;
    *had_credentials = at != NULL;
    return at != NULL ? from_to(at + 1, authority.at + authority.len) : authority;
}
