"""Where the machine's own programs are; on its own, for who has none of the server's packages."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
