#!/bin/sh
# Neither starts, restarts nor stops a service: see packages.sh.
exit 0
