# OpenLDAP with the seed of the demo, and openssl for the certificates of compose.yaml.
#
#   docker build -f docker/directory.Dockerfile docker

FROM debian:bookworm-slim
RUN echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        slapd ldap-utils openssl \
    && rm -rf /var/lib/apt/lists/*
COPY seed /seed
COPY prepare.sh directory.sh /usr/local/bin/
EXPOSE 636
CMD ["bash", "/usr/local/bin/directory.sh"]
