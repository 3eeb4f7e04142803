"""XMP: text in, text out; a packet is someone else's and is not parsed and written anew.

XMP part 1 (ISO 16684-1), IPTC photo metadata: digital source type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Final

__all__ = ["tidy", "with_provenance", "without_gps"]

_THUMBNAILS: Final = re.compile(r"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
_TURN: Final = re.compile(r"(tiff:Orientation(?:>|\s*=\s*[\"'])\s*)[2-8]")
_PLACE: Final = re.compile(
    r"""\s[\w.-]+:Gps[\w-]*\s*=\s*(?:"[^"]*"|'[^']*')"""  # an attribute
    r"""|<([\w.-]+:Gps[\w-]*)\b[^>]*(?:/>|>.*?</\1>)""",  # or an element
    re.DOTALL | re.IGNORECASE,
)
_OURS: Final = re.compile(r"<rdf:Description\b[^>]*\blowlight:Provenance=[^>]*/>")
_EMPTY: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def tidy(xmp: bytes) -> bytes:
    """A packet for an upright picture: orientation reset, thumbnails gone."""
    return _edited(xmp, lambda packet: _TURN.sub(r"\g<1>1", _THUMBNAILS.sub("", packet)))


def without_gps(xmp: bytes) -> bytes:
    """A packet without properties whose name begins with GPS, of any vocabulary."""
    return _edited(xmp, lambda packet: _PLACE.sub("", packet))


def with_provenance(xmp: bytes | None, text: str) -> bytes:
    """A packet that says by what the picture was made, and that an algorithm enhanced it (IPTC digital source type).

    A statement of an earlier run is replaced. A packet that cannot be read is kept as it is.
    """

    def add(packet: str) -> str:
        packet = _OURS.sub("", packet)
        about = re.search(r"rdf:about\s*=\s*(\"[^\"]*\"|'[^']*')", packet)
        parts = [f"<rdf:Description rdf:about={about[1]}" if about else '<rdf:Description rdf:about=""']
        parts.append(f'xmlns:lowlight="urn:lowlight-cli:1" lowlight:Provenance="{escape(text)}"')
        if "CreatorTool" not in packet:
            parts.append(f'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="{escape(text)}"')
        if "DigitalSourceType" not in packet:
            parts.append('xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"')
            kind = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
            parts.append(f'Iptc4xmpExt:DigitalSourceType="{kind}"')
        head, end, tail = packet.rpartition("</rdf:RDF>")
        return head + " ".join(parts) + "/>" + end + tail if end else packet

    return _edited(xmp or _EMPTY.encode(), add)


def _edited(xmp: bytes, edit: Callable[[str], str]) -> bytes:
    try:
        return edit(xmp.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return xmp  # UTF-16 is allowed and all but unknown: left alone
