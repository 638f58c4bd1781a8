# smack in one small image: built with the pinned toolchain, run without it, not as root.
#
#   docker build .                                    builds it from source
#   docker build --build-arg BINARY=prebuilt .        takes target/release/smack as it is (for Debian 12 or newer)
ARG BINARY=built

FROM rust:1.95-slim-bookworm AS built
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --release --locked && cp target/release/smack /usr/local/bin/smack

FROM scratch AS prebuilt
COPY target/release/smack /usr/local/bin/smack

FROM ${BINARY} AS binary

FROM debian:bookworm-slim
RUN useradd --system --uid 1000 --create-home --home-dir /var/lib/smack smack
COPY --from=binary /usr/local/bin/smack /usr/local/bin/smack
USER smack
WORKDIR /var/lib/smack
ENTRYPOINT ["smack"]
CMD ["--help"]
