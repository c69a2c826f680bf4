//! Cases of server-side apply without a server.

