"""The front door: Ray Serve's HAProxy, its configuration corrected, with our Lua inside.

A request's way: HAProxy (model by `model`, instance by load and prefix) -> replica. Serve writes
the configuration, `launcher` corrects it and becomes HAProxy, `lua/` decides per request.
"""
