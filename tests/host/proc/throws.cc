/* throws.cc - an exception that nobody catches ends the process from the thread's start routine, as without us. */
#include "client.h"
#include <pthread.h>
#include <stdexcept>

int main()
{
    inbound_begin();
    pthread_t t;
    pthread_create(
        &t, nullptr, [](void *) -> void * { throw std::runtime_error("nobody's"); }, nullptr);
    pthread_join(t, nullptr);
    return 0;
}
