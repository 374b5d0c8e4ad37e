"""Chapter 6 of 3.1.1: MQTT over WebSocket."""

import websocket
from kit import covers


@covers("MQTT311-6.0.0-1")
def test_only_binary_frames(env):
    websocket.only_binary_frames(env, 4)


@covers("MQTT311-6.0.0-2")
def test_frames_are_no_packets(env):
    websocket.frames_are_no_packets(env, 4)
    websocket.frames_are_no_packets(env, 3)


@covers("MQTT311-6.0.0-4")
def test_subprotocol(env):
    websocket.subprotocol(env)
