#!/bin/sh
# Writes possession.json anew: keys of every kind, with proofs that whoever made them has them.
set -eu
cd "$(dirname "$0")"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
printf pod-uid >"$made/uid"
base() { base64 -w0 "$made/$1"; }

key() { # NAME ARGUMENTS...
    name=$1
    shift
    openssl genpkey "$@" -out "$made/$name.key" 2>"$made/log"
    openssl pkey -in "$made/$name.key" -pubout -outform DER -out "$made/$name.pub"
}
request() { # NAME ERRORS ARGUMENTS...
    name=$1 errors=$2
    shift 2
    openssl req -new -key "$made/$name.key" -subj / "$@" -outform DER -out "$made/csr"
    printf '{"name": "request of %s", "spec": {"stubPKCS10Request": "%s"}, "errors": "%s"},\n' \
        "$name $*" "$(base csr)" "$errors"
}
proof() { # NAME ERRORS
    printf '{"name": "proof of %s", "spec": {"podUID": "pod-uid", "pkixPublicKey": "%s", "proofOfPossession": "%s"}, "errors": "%s"},\n' \
        "$1" "$(base "$1.pub")" "$(base proof)" "$2"
}
signed() { # NAME ERRORS ARGUMENTS...
    name=$1 errors=$2
    shift 2
    openssl dgst -sign "$made/$name.key" "$@" -out "$made/proof" "$made/uid"
    proof "$name" "$errors"
}
ec() { key "$1" -algorithm EC -pkeyopt "ec_paramgen_curve:$2"; }

ec P-224 secp224r1
ec P-256 P-256
ec P-384 P-384
ec P-521 P-521
ec secp256k1 secp256k1
key Ed25519 -algorithm ED25519
key X25519 -algorithm X25519
for bits in 2048 3072 4096; do key "RSA-$bits" -algorithm RSA -pkeyopt "rsa_keygen_bits:$bits"; done

no_csr='spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR'
no_key='spec.pkixPublicKey: Invalid value: \"KEY\": must be a valid PKIX-serialized public key'
unknown='spec.pkixPublicKey: Invalid value: \"KEY\": unknown public key type; supported types are Ed25519, ECDSA, and RSA'
short='Invalid value: \"2048-bit modulus\": RSA keys must have modulus size 3072 or 4096'
curve='Invalid value: \"curve P-224\": elliptic public keys must use curve'
bad='spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature'
{
    echo '['
    request P-224 "spec.stubPKCS10Request: $curve P256, P384, or P521" -sha256
    request P-256 '' -sha256
    request P-384 '' -sha384
    request P-521 '' -sha256
    request P-521 '' -sha512
    request secp256k1 "$no_csr" -sha256
    request Ed25519 ''
    request RSA-2048 "spec.stubPKCS10Request: $short" -sha256
    request RSA-3072 '' -sha256
    request RSA-4096 '' -sha512
    signed P-224 "spec.pkixPublicKey: $curve P256 or P384" -sha256
    signed P-256 '' -sha256
    signed P-256 "$bad" -sha384
    signed P-384 '' -sha256
    signed P-521 '' -sha256
    signed secp256k1 "$no_key" -sha256
    openssl pkeyutl -sign -inkey "$made/Ed25519.key" -rawin -in "$made/uid" -out "$made/proof"
    proof Ed25519 ''
    proof X25519 "$unknown"
    signed RSA-2048 "spec.pkixPublicKey: $short" -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
    signed RSA-3072 '' -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32
    signed RSA-4096 '' -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:max
    signed RSA-4096 "$bad" -sha256
    echo '{"name": "no key", "spec": {"podUID": "u", "pkixPublicKey": "AAAA", "proofOfPossession": "AAAA"}, "errors": "'"$no_key"'"}'
    echo ']'
} >possession.json
