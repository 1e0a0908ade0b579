"""The version of this package, which `User-Agent` names too."""

VERSION = "0.1.0"
