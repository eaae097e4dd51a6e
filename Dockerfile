# The control plane in a container. Agents run beside it, in containers of the engine whose socket is
# mounted. WHOEVER REACHES THAT SOCKET IS ROOT ON ITS MACHINE, and so is this container: it protects
# nothing from the control plane. See docs/containers.md; compose.yaml is a way to run it.
#
#     docker build -t agento .
#
# The image has no secrets: keys are made in the volume at /var/lib/agento.

# The programs. BASE and GO are arguments for registries of your own.
ARG GO=golang:1.26-bookworm
ARG BASE=debian:bookworm-slim
FROM ${GO} AS programs
WORKDIR /src
COPY go.mod go.sum ./
COPY client/go.mod client/
RUN go mod download
COPY . .
ARG VERSION=container
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /programs/ ./cmd/agento ./cmd/agento-relay

FROM ${BASE}
# The certificates of authorities, with which model providers are known. Slim images have none.
COPY --from=programs /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=programs /programs/agento /programs/agento-relay /usr/local/bin/
# An ordinary user. It gets the group of the engine's socket when it is started (--group-add).
RUN echo 'agento:x:10000:10000:agento:/var/lib/agento:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'agento:x:10000:' >>/etc/group \
    && install -d -o 10000 -g 10000 -m 700 /var/lib/agento
USER 10000:10000
WORKDIR /var/lib/agento
ENV AGENTO_DATA=/var/lib/agento AGENTO_RUNTIME=docker HOME=/var/lib/agento
VOLUME /var/lib/agento
EXPOSE 8080
# Slim images have no curl; bash opens connections itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r answer <&3 && [[ $answer == *' 200 '* ]]"]
ENTRYPOINT ["agento"]
# Containers of agents run on when this one ends, and the next one adopts them.
CMD ["serve", "--listen", "0.0.0.0:8080"]
