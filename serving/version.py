"""The version of Hornbill, and of `serving` as a separate package."""

VERSION = "0.1.0"
