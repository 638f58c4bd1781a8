# For servers of tests, to be sourced: certificates DIR makes in DIR a CA (ca.pem), a certificate of it for this machine
# (server.pem, server.key; both in keystore.pem) and one for a client (client.pem, client.key), and a CA that nobody knows
# (stranger.pem).

certificates() {
    local tls=$1 name
    mkdir -p "$tls"
    {
        for name in ca stranger; do
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=smack-test-$name" -keyout "$tls/$name.key" -out "$tls/$name.pem"
        done
        echo 'subjectAltName=IP:127.0.0.1,DNS:localhost' >"$tls/names"
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -subj "/CN=$name" -keyout "$tls/$name.key" -out "$tls/$name.csr"
            openssl x509 -req -in "$tls/$name.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 2 \
                -extfile "$tls/names" -out "$tls/$name.pem"
        done
    } >"$tls/log" 2>&1 || { cat "$tls/log" >&2; fail "openssl could not make keys"; }
    cat "$tls/server.key" "$tls/server.pem" >"$tls/keystore.pem"
}
