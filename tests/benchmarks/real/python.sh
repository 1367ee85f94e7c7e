#!/bin/sh
exec python3 python.py
