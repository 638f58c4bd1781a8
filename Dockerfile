# smack in one small image: built with the pinned toolchain, run without it, not as root.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN cargo build --release --locked && cp target/release/smack /usr/local/bin/smack

FROM debian:bookworm-slim
RUN useradd --system --uid 1000 --create-home --home-dir /var/lib/smack smack
COPY --from=build /usr/local/bin/smack /usr/local/bin/smack
USER smack
WORKDIR /var/lib/smack
ENTRYPOINT ["smack"]
CMD ["--help"]
