#!/bin/bash
# Ready: the Bolt server answers a TLS client's first words (RFC 5246, 7.4.1.2) with a handshake,
# not with an alert. Bash speaks no TLS, so the words are fixed: TLS 1.2, four suites with forward
# secrecy, curve secp256r1, signatures by RSA or ECDSA. They carry no secret, and end there.
set -eu
exec 3<>"/dev/tcp/localhost/$1"
printf '\x16\x03\x01\x00\x59\x01\x00\x00\x55\x03\x03' >&3
printf '0%.0s' {1..32} >&3
printf '\x00\x00\x08\xc0\x2f\xc0\x30\xc0\x2b\xc0\x2c\x01\x00' >&3
printf '\x00\x24\x00\x0a\x00\x04\x00\x02\x00\x17\x00\x0b\x00\x02\x01\x00' >&3
printf '\x00\x0d\x00\x12\x00\x10\x08\x04\x04\x01\x08\x05\x05\x01\x08\x06\x06\x01\x04\x03\x05\x03' >&3
[ "$(head -c 1 <&3 | od -An -tx1 | tr -d ' \n')" = 16 ]
