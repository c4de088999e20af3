# The server alone: it talks to hypervisors elsewhere, or to this machine's libvirtd through its mounted socket:
#   docker run -v /run/libvirt:/run/libvirt -v /run/virtrpc:/run/virtrpc -v /var/lib/virtrpc:/var/lib/virtrpc --stop-timeout 70 virtrpc
# /var/lib/virtrpc has the journal: without it the next container knows no jobs. The time to stop is above drain_timeout.
FROM docker.io/library/debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libvirt-dev pkg-config python3-dev python3-venv
WORKDIR /src
COPY LICENSE README.md constraints.txt pyproject.toml ./
COPY clients clients
COPY drivers drivers
COPY server server
RUN python3 -m venv /opt/virtrpc \
    && /opt/virtrpc/bin/pip install --no-cache-dir -c constraints.txt pip setuptools hatchling \
    && /opt/virtrpc/bin/pip install --no-cache-dir --no-build-isolation -c constraints.txt '.[server]' \
    && /opt/virtrpc/bin/pip uninstall -y hatchling

FROM docker.io/library/debian:bookworm-slim
# libvirt-clients has virt-admin, which `virtrpcd doctor` reads a daemon's limits with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libvirt-clients libvirt0 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/virtrpc /opt/virtrpc
ENV PATH=/opt/virtrpc/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["virtrpcd"]
