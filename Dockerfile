# The server and its command line, for a user without rights on a root that is only read: docs/deployment.md. `make image` builds and runs it.
#   docker build -t virtrpc .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --stop-timeout 70 --group-add "$(stat -c %g /run/libvirt/libvirt-sock)" \
#       -v /run/libvirt:/run/libvirt -v /run/virtrpc:/run/virtrpc -v /var/lib/virtrpc:/var/lib/virtrpc --tmpfs /tmp virtrpc
# What is written to are those three: the socket, the journal (without it the next container knows no jobs), temporary files. 10100 must own the
# first two. The time to stop is above drain_timeout.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM $BASE AS build
# Of the machine that builds, where it needs any: apt's and pip's own variables for a configuration that is mounted for the build and stays outside.
ARG APT_CONFIG
ARG PIP_CONFIG_FILE
RUN apt-get update && apt-get install -y --no-install-recommends binutils gcc libc6-dev libvirt-dev pkg-config python3-dev python3-venv
WORKDIR /src
# What the code is built on comes first: a change of the code alone does not build that again.
COPY constraints.txt pyproject.toml ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir -q -c constraints.txt pip setuptools hatchling \
    && /opt/build/bin/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print(*project["dependencies"], *project["optional-dependencies"]["server"], sep="\n")' > requirements.txt \
    && python3 -m venv --without-pip /opt/virtrpc \
    && /opt/build/bin/pip wheel --no-cache-dir -q --no-build-isolation -c constraints.txt -w /wheels -r requirements.txt \
    && /opt/build/bin/pip --python /opt/virtrpc/bin/python install --no-compile -q --no-index -f /wheels -r requirements.txt \
    && find /opt/virtrpc -name '*.so*' -exec strip --strip-unneeded {} +
COPY LICENSE README.md ./
COPY clients/python clients/python
COPY drivers drivers
COPY server server
# Compiled here, because nobody can write beside the sources later, and valid by their content, because the times of files do not survive every copy.
RUN /opt/build/bin/pip --python /opt/build/bin/python wheel --no-cache-dir -q --no-build-isolation --no-deps -w /wheels . \
    && /opt/build/bin/pip --python /opt/virtrpc/bin/python install --no-compile -q --no-index --no-deps -f /wheels virtrpc \
    && /opt/virtrpc/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/virtrpc/lib

FROM $BASE
ARG APT_CONFIG
# libvirt-clients has virt-admin, which `virtrpcd doctor` reads a daemon's limits with; qemu-utils has qemu-img, which looks into images.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libvirt-clients libvirt0 python3 qemu-utils \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
    && useradd --uid 10100 --user-group --no-create-home --home-dir /var/lib/virtrpc --shell /usr/sbin/nologin virtrpc \
    && install -d -o virtrpc -g virtrpc /run/virtrpc \
    && install -d -o virtrpc -g virtrpc -m 0700 /var/lib/virtrpc
COPY --from=build /opt/virtrpc /opt/virtrpc
LABEL org.opencontainers.image.title=virtrpc \
      org.opencontainers.image.description="Hypervisors over gRPC" \
      org.opencontainers.image.licenses=Apache-2.0
# The socket and the journal have root's places by the variables that decide for other users: settings of the file go before those.
ENV PATH=/opt/virtrpc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 XDG_RUNTIME_DIR=/run XDG_STATE_HOME=/var/lib
USER 10100:10100
# Only what the server says of itself, never whether a hypervisor can be reached: that is not mended by a new container.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["virtrpc", "health"]
ENTRYPOINT ["virtrpcd"]
