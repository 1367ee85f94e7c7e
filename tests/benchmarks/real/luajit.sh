#!/bin/sh
exec luajit luajit.lua
