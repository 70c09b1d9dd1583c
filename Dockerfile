# Caddy with the gateway, built as xcaddy.json says from this checkout:
#
#	docker build -t vllm-gateway .
#	docker run --rm --network host -v ./Caddyfile:/etc/caddy/Caddyfile:ro vllm-gateway
#
# Any builder will do, the classic one too. Both base images must be of one Debian
# release, and not Alpine: NVIDIA's library needs glibc. Where they come from, and
# how to pass others: docs/building.md. deploy/compose.yaml runs the image.
ARG BUILD_IMAGE=golang:1.26.8-trixie
ARG RUNTIME_IMAGE=debian:13.6-slim

FROM ${BUILD_IMAGE} AS build
# A base image that brings setcap along needs no package source.
RUN command -v setcap || { \
		apt-get update && \
		apt-get install --yes --no-install-recommends libcap2-bin && \
		rm -rf /var/lib/apt/lists/*; \
	}
# What compiles the builder is compiled in the same way as what the manifest says,
# so that the standard library is compiled once.
ENV CGO_ENABLED=1 GOFLAGS=-trimpath
WORKDIR /src
COPY deploy/build deploy/build
RUN go build -C deploy/build -o /usr/local/bin/build-caddy .
# Caddy alone first: a layer that lasts as long as the manifest does, so that a
# change of the gateway compiles the gateway, not Caddy.
COPY xcaddy.json ./
RUN build-caddy -caddy-only
COPY . .
RUN build-caddy -output /out/caddy && cp "$(command -v setcap)" /out/

FROM ${RUNTIME_IMAGE} AS gateway
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ /usr/local/bin/
# The capability lets the user below listen on ports 80 and 443 of the host. It is
# given here, because the classic builder loses it when it copies between stages.
RUN setcap cap_net_bind_service=+ep /usr/local/bin/caddy && rm /usr/local/bin/setcap
# Where Caddy keeps its certificates and its last configuration. Volumes that are
# made for these folders take their owner over.
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin caddy && \
	install --directory /etc/caddy && \
	install --directory --owner caddy --group caddy --mode 0700 /config /data
USER caddy
RUN caddy version && \
	caddy list-modules | grep --quiet '^vramman$' && \
	caddy list-modules | grep --quiet '^http.handlers.vllm_admission$'
VOLUME ["/config", "/data"]
EXPOSE 80 443 443/udp
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
