#!/usr/bin/env bash
# Makes a certificate that nobody has signed, for trying: moelight.pem for HAProxy (chain and key) and
# moelight-ca.pem for clients (`moelight --tls-ca`), beside this script. It never overwrites one.
#   make_certificate.sh NAME [FOLDER]      NAME: the host name by which clients call the server
set -euo pipefail
name=${1:?usage: make_certificate.sh NAME [FOLDER]}
folder=${2:-$(dirname "$0")}
[ ! -e "$folder/moelight.pem" ] || { echo "$folder/moelight.pem is there already" >&2; exit 1; }

key=$(mktemp)
trap 'rm -f "$key"' EXIT
umask 077
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$name" \
  -addext "subjectAltName=DNS:$name" -keyout "$key" -out "$folder/moelight-ca.pem" 2>/dev/null
chmod 644 "$folder/moelight-ca.pem"
cat "$folder/moelight-ca.pem" "$key" >"$folder/moelight.pem"
# The user of HAProxy's image.
if [ "$(id -u)" -eq 0 ]; then
  chown 99:99 "$folder/moelight.pem"
else
  echo "let HAProxy read it: sudo chown 99:99 $folder/moelight.pem"
fi
echo "clients call it so: moelight --tls-ca $folder/moelight-ca.pem --server $name:50443 list"
