#!/bin/sh
# Writes the keys of the tests anew: each in every form, and its id as upstream makes it.
set -eu
cd "$(dirname "$0")"
id() { openssl pkey -in "$1.pkcs8.pem" -pubout -outform DER | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d '=\n' >"$1.id"; }

for curve in prime256v1 secp384r1 secp521r1; do
    # With a block of parameters before the key.
    openssl ecparam -name $curve -genkey -out $curve.sec1.pem
    openssl pkcs8 -topk8 -nocrypt -in $curve.sec1.pem -out $curve.pkcs8.pem
    openssl pkey -in $curve.pkcs8.pem -pubout -out $curve.public.pem
    id $curve
done
openssl genrsa -traditional -out rsa.pkcs1.pem 2048
openssl pkcs8 -topk8 -nocrypt -in rsa.pkcs1.pem -out rsa.pkcs8.pem
openssl rsa -in rsa.pkcs1.pem -pubout -out rsa.public.pem
openssl rsa -in rsa.pkcs1.pem -RSAPublicKey_out -out rsa.public1.pem
id rsa
openssl genpkey -algorithm ED25519 | openssl pkey -pubout -out ed25519.public.pem

# {"alg":"ES512"} . {"sub":"x"} . the signature's two numbers in 66 bytes each, which openssl writes as ASN.1.
signed=eyJhbGciOiJFUzUxMiJ9.eyJzdWIiOiJ4In0
numbers=$(printf %s "$signed" | openssl dgst -sha512 -sign secp521r1.pkcs8.pem | openssl asn1parse -inform DER |
    sed -n 's/.*INTEGER *://p' | while read -r number; do printf '%132s' "$number" | tr ' ' 0; done)
printf '%s.%s\n' "$signed" "$(printf %s "$numbers" | xxd -r -p | base64 -w0 | tr '+/' '-_' | tr -d '=')" >secp521r1.token
