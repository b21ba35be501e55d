# One image with the three programs, run as a user without rights. The base needs glibc and libgcc; it is an argument,
# for those who must use their own:  docker build --build-arg BASE=… -t niks3 .
ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-slim-bookworm

FROM ${BASE} AS base
LABEL org.opencontainers.image.title="niks3" \
      org.opencontainers.image.description="A Nix binary cache on S3, declared in Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/usr/local/bin:/usr/bin:/bin
USER 65532:65532
CMD ["/usr/local/bin/niks3", "--version"]

# For --target prebuilt: a context that is a folder with programs that cargo built already.
FROM base AS prebuilt
COPY niks3-operator niks3-server niks3 /usr/local/bin/

FROM ${RUST} AS build
# It writes the list of its crates into each program: docs/releasing.md.
RUN cargo install --quiet --locked cargo-auditable@0.7.7
WORKDIR /src
COPY . .
ENV SQLX_OFFLINE=true
RUN cargo auditable build --release --locked --target-dir /target --bin niks3-operator --bin niks3-server --bin niks3

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /target/release/niks3-operator /target/release/niks3-server /target/release/niks3 /usr/local/bin/
