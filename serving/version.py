"""The version of Hornbill, and of `serving` as a package of its own."""

VERSION = "0.1.0"
