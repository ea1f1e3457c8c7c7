/* Gets addresses one after the other on one handle of libcurl, and writes what comes to standard output. Linked with the libcurl that is to be tried.
 *
 *   curl_client AUTHORITY ADDRESS... */
#include <curl/curl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    CURLcode result = CURLE_OK;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL *curl = curl_easy_init();
    for (int i = 2; i < argc && result == CURLE_OK; i++) {
        curl_easy_setopt(curl, CURLOPT_URL, argv[i]);
        curl_easy_setopt(curl, CURLOPT_CAINFO, argv[1]);
        result = curl_easy_perform(curl);
    }
    if (result != CURLE_OK)
        fprintf(stderr, "%s\n", curl_easy_strerror(result));
    curl_easy_cleanup(curl);
    return result != CURLE_OK;
}
