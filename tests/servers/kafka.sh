#!/usr/bin/env bash
# Kafka with TLS and passwords, for the tests that need it, beside the one broker of servers.sh.
#
#   tests/servers/kafka.sh secure DIR   one broker; prints SASL=host:port (TLS, PLAIN and SCRAM) and TLS=host:port (wants a
#                                       client's certificate); DIR/tls has ca.pem, client.pem, client.key, stranger.pem;
#                                       users: smack with password scram-secret (SCRAM), plain with plain-secret (PLAIN)
#   tests/servers/kafka.sh stop DIR     ends what was started there and deletes what is ours in DIR
set -euo pipefail
cd "$(dirname "$0")/../.."

. tests/servers/certificates.sh

READY_WITHIN_S=180
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

say() { echo "kafka.sh: $*" >&2; }
fail() { say "$*"; exit 1; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range that the kernel gives to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        case " ${PORTS_TAKEN:-} " in *" $port "*) continue ;; esac
        answers "$port" || break
    done
    PORTS_TAKEN="${PORTS_TAKEN:-} $port"
    PORT=$port
}

tool() { "$java" -cp "$libs/*" kafka.tools.StorageTool "$@"; }

# launch DIR N: a broker from DIR/N.properties
launch() {
    cat >"$1/log4j2.properties" <<'PROPERTIES'
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1}: %m%n
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
PROPERTIES
    setsid "$java" -Xmx400m -XX:+UseSerialGC -Dsmack.servers="$1" -Dlog4j2.configurationFile="$1/log4j2.properties" \
        -cp "$libs/*" kafka.Kafka "$1/$2.properties" >"$1/$2.log" 2>&1 </dev/null &
    echo $! >"$1/$2.pid"
}

ready() {
    local deadline=$((SECONDS + READY_WITHIN_S))
    until grep -q 'Kafka Server started' "$1/$2.log"; do
        if ! kill -0 "$(cat "$1/$2.pid")" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
            tail -n 30 "$1/$2.log" >&2
            fail "broker $2 did not start; its last lines are above"
        fi
        sleep 0.2
    done
}

# common N REPLICAS: what all brokers have
common() {
    cat <<PROPERTIES
process.roles=broker,controller
node.id=$1
controller.listener.names=CONTROLLER
auto.create.topics.enable=false
default.replication.factor=$2
offsets.topic.replication.factor=$2
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$2
transaction.state.log.min.isr=$(($2 / 2 + 1))
transaction.state.log.num.partitions=4
min.insync.replicas=$(($2 / 2 + 1))
group.initial.rebalance.delay.ms=0
PROPERTIES
}

secure() {
    local dir=$1 sasl tls controller login=org.apache.kafka.common.security
    command -v openssl >/dev/null || fail "missing: openssl"
    free_port; sasl=$PORT
    free_port; tls=$PORT
    free_port; controller=$PORT
    certificates "$dir/tls"
    {
        common 1 1
        cat <<PROPERTIES
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=SASL_SSL://127.0.0.1:$sasl,SSL://127.0.0.1:$tls,CONTROLLER://127.0.0.1:$controller
advertised.listeners=SASL_SSL://127.0.0.1:$sasl,SSL://127.0.0.1:$tls
listener.security.protocol.map=CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
inter.broker.listener.name=SSL
log.dirs=$dir/data
ssl.keystore.type=PEM
ssl.keystore.location=$dir/tls/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.pem
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_plain="plain-secret";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$login.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
PROPERTIES
    } >"$dir/1.properties"
    tool format -t "$(tool random-uuid 2>/dev/null | tail -n 1)" -c "$dir/1.properties" --standalone \
        --add-scram 'SCRAM-SHA-256=[name=smack,password=scram-secret]' \
        --add-scram 'SCRAM-SHA-512=[name=smack,password=scram-secret]' \
        >"$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; fail "could not format the data folder"; }
    launch "$dir" 1
    ready "$dir" 1
    echo "TLS=127.0.0.1:$tls"
    echo "SASL=127.0.0.1:$sasl"
}

stop() {
    local dir=$1 file pid
    for file in "$dir"/1.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        # The id may be another's by now: only a process that was started for this folder is ours to end.
        if tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir"; then
            kill -CONT "$pid" 2>/dev/null || true
            kill -9 "$pid" 2>/dev/null || true
        fi
    done
    rm -rf "$dir"/tls "$dir"/data "$dir"/1.{pid,log,properties} "$dir"/format.log "$dir"/log4j2.properties
    rmdir "$dir" 2>/dev/null || true
}

[ -n "${2:-}" ] || { sed -n '2,7p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
mkdir -p "$2"
dir=$(cd "$2" && pwd)
case $1 in
    secure)
        libs=$(tests/servers/servers.sh libs kafka)
        trap 'status=$?; [ $status -eq 0 ] || stop "$dir"; exit $status' EXIT
        "$1" "$dir"
        trap - EXIT
        ;;
    stop) stop "$dir" ;;
    *) fail "unknown '$1'; known: secure, stop" ;;
esac
