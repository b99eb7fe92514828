# One static binary, and nothing else: operator and fetch Jobs run from the same image.
#
# `docker build .` compiles in here from the sources. `make image` compiles outside and hands its folder in under the name
# `binary` (--build-context), in the place of the stage of that name: that needs no network and takes seconds.
FROM docker.io/library/rust:1-slim-bookworm AS sources
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN hack/static.sh /out

FROM scratch AS binary
COPY --from=sources /out/ /

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tenantry" \
      org.opencontainers.image.description="A Kubernetes operator that lets KubeSphere DevOps tenants declare builds" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/tenantry/tenantry" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binary /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary /tenantry /tenantry
# By number: pod security `restricted` cannot check a name.
USER 65532:65532
ENTRYPOINT ["/tenantry"]
CMD ["operator"]
