// What mbedTLS says of certificate chains, with CRLs from a file.
//
// verify ROOT.pem CRLS.pem CHAIN.pem...
// prints a line for each chain: its file, then `good`, `revoked`, or what else is wrong. Ends with 2 where a file can't be
// read.

#include <stdio.h>

#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>

static int unreadable(const char *file, int error)
{
    fprintf(stderr, "%s: -0x%04x\n", file, (unsigned int) -error);
    return 2;
}

int main(int count, char **arguments)
{
    mbedtls_x509_crt root;
    mbedtls_x509_crl crls;
    int error;

    if (count < 3)
        return 2;
    mbedtls_x509_crt_init(&root);
    mbedtls_x509_crl_init(&crls);
    if ((error = mbedtls_x509_crt_parse_file(&root, arguments[1])) != 0)
        return unreadable(arguments[1], error);
    if ((error = mbedtls_x509_crl_parse_file(&crls, arguments[2])) != 0)
        return unreadable(arguments[2], error);
    for (int at = 3; at < count; at++) {
        mbedtls_x509_crt chain;
        uint32_t flags = 0;
        char words[1024] = "good";

        mbedtls_x509_crt_init(&chain);
        if ((error = mbedtls_x509_crt_parse_file(&chain, arguments[at])) != 0)
            return unreadable(arguments[at], error);
        error = mbedtls_x509_crt_verify(&chain, &root, &crls, NULL, &flags, NULL, NULL);
        if (flags == MBEDTLS_X509_BADCERT_REVOKED)
            snprintf(words, sizeof words, "revoked");
        else if (flags != 0)
            /* A line for each of them. */
            mbedtls_x509_crt_verify_info(words, sizeof words, "", flags);
        else if (error != 0)
            snprintf(words, sizeof words, "-0x%04x", (unsigned int) -error);
        printf("%s: %s\n", arguments[at], words);
        mbedtls_x509_crt_free(&chain);
    }
    mbedtls_x509_crl_free(&crls);
    mbedtls_x509_crt_free(&root);
    return 0;
}
