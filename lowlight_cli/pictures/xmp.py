"""Edit XMP packets as text: they belong to other programs, so they are not parsed and serialised anew.

XMP part 1 (ISO 16684-1), IPTC photo metadata: digital source type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Final
from xml.parsers import expat

__all__ = ["is_ours", "names_clip", "tells_place", "tidy", "with_provenance", "without_places"]

LONGEST: Final = 2**24
"""Programs for retouching write some MiB: masks, the names of all that was pasted in."""
_FOLDED: Final = re.compile(r"<(?P<end>/)?(?P<name>(?:xmp|xap):Thumbnails|G?Container:Directory)(?(end)\s*>|(?=[\s>]))")
"""Tags of thumbnails, and of lists of pictures stored behind the picture."""
_TURN: Final = re.compile(r"(tiff:Orientation(?:>|\s*=\s*[\"'])\s*)[2-8]")
_BEHIND: Final = r"(?:HasExtendedXMP|(?:MicroVideo|MotionPhoto)(?:Version|Offset|PresentationTimestampUs)?)"
_ELSEWHERE: Final = re.compile(
    rf"""\s[\w.-]+:{_BEHIND}\s*=\s*(?:"[^"]*"|'[^']*')"""
    rf"""|<([\w.-]+:{_BEHIND})(?=[\s>])[^<>]*>[^<]*</\1\s*>"""
)
"""Pointers to further packets, clips and pictures stored behind the picture (Google: Motion Photo format 1.0)."""
_CLIP: Final = re.compile(r":(?:MicroVideo|MotionPhoto)(?:\s*=\s*.|\s*>\s*)1\b")
_PLACES: Final = (
    r"(?:Gps[\w.-]*|Lat(?:itude|_long)?|Long(?:t?itude)?|Coverage|City|Sub-?location|State|Province-?State"
    r"|Country(?:-?(?:Code|Name))?|WorldRegion|(?:Dcterms|Shot)?Location|Location(?:Created|Shown|Id|Name))"
)
"""Property names from any vocabulary: photoshop, IPTC Core and Extension, exif, dynamic media, Dublin Core, W3C's geo,
those of drones."""
_IS_PLACE: Final = re.compile(_PLACES, re.IGNORECASE)
_PLACE: Final = re.compile(
    rf"""\s(?!xmlns:)[\w.-]+:{_PLACES}\s*=\s*(?:"[^"]*"|'[^']*')"""  # an attribute
    rf"""|<((?:[\w.-]+:)?{_PLACES})(?=[\s/>])(?:"[^"]*"|'[^']*'|[^>"'])*?(?:/>|>.*?</\1\s*>)""",  # or an element
    re.DOTALL | re.IGNORECASE,
)
"""For XML only: in what is none it would search to the end again and again."""
_FOREIGN: Final = re.compile(r"<!|<\?(?!xpacket\s|xml\s|adobe-xap-filters\s+esc=[\"'][CRLF]*[\"']\s*\?>)")
"""The start of a comment, a declaration, or an instruction that is not XMP's own, of XML or of old Adobe programs."""
_DESCRIPTION: Final = re.compile(r"<rdf:Description\b[^<>]*/>")
_NAMESPACE: Final = "urn:lowlight-cli:1"
_EMPTY: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def tidy(xmp: bytes) -> bytes:
    """A packet for an upright picture: orientation reset; thumbnails and pointers to data elsewhere removed."""
    return _edited(xmp, lambda packet: _TURN.sub(r"\g<1>1", _ELSEWHERE.sub("", _unfolded(packet))))


def _unfolded(packet: str) -> str:
    """A packet without the elements of `_FOLDED`, each up to the first tag that ends it; linear in its length."""
    ends = {tag["name"]: tag.start() for tag in _FOLDED.finditer(packet) if tag["end"]}  # the last of each name
    kept, at, inside = list[str](), 0, None
    for tag in _FOLDED.finditer(packet):
        if inside is None and not tag["end"] and tag.start() < ends.get(tag["name"], 0):
            kept.append(packet[at : tag.start()])
            inside = tag["name"]
        elif tag["end"] and tag["name"] == inside:
            at, inside = tag.end(), None
    return "".join([*kept, packet[at:]])


def names_clip(xmp: bytes) -> bool:
    """Whether a packet marks a motion photo, with a video clip behind the picture."""
    return _CLIP.search(xmp.decode("utf-8", "replace")) is not None


def is_ours(xmp: bytes) -> bool:
    """Whether a packet says that lowlight made the picture; see `with_provenance`."""
    return _NAMESPACE.encode() in xmp


def tells_place(name: str) -> bool:
    """Whether the name of a property, or of a text in a PNG, stands for a place; `exif:GPSLatitude` and `City` do."""
    return _IS_PLACE.fullmatch(name.rpartition(":")[2]) is not None


def without_places(xmp: bytes) -> bytes:
    """A packet without the properties that name a place, in numbers or in words.

    Raises:
        ValueError: the packet is not XML in UTF-8, contains comments, declarations or foreign instructions, or keeps a
            property that names a place.
    """
    packet = xmp.decode("utf-8")
    packet = packet[packet.find("<") : packet.rfind(">") + 1]  # around it are zeros in some files, or anything
    if _FOREIGN.search(packet):
        raise ValueError("it holds comments or the like, in which anything may stand")
    try:
        if any(map(tells_place, _names(packet))):
            packet = _PLACE.sub("", packet)
        left = [name for name in _names(packet) if tells_place(name)]
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML ({error})") from error
    if left:
        raise ValueError(f"{left[0]} cannot be taken out")
    return packet.encode("utf-8")


def _names(packet: str) -> list[str]:
    """The names of all elements and attributes. Raises ExpatError if the packet is not XML."""
    names: list[str] = []

    def started(element: str, attributes: dict[str, str]) -> None:
        names.extend([element, *(name for name in attributes if not name.startswith("xmlns"))])

    parser = expat.ParserCreate()
    parser.StartElementHandler = started
    parser.Parse(packet, True)
    return names


def with_provenance(xmp: bytes | None, text: str) -> bytes:
    """A packet stating what the picture was made with, and that an algorithm enhanced it (IPTC digital source type).

    The statement of an earlier run is replaced. A packet that cannot be edited is returned unchanged.
    """

    def add(packet: str) -> str:
        packet = _DESCRIPTION.sub(lambda tag: "" if "lowlight:Provenance=" in tag[0] else tag[0], packet)
        about = re.search(r"rdf:about\s*=\s*(\"[^\"]*\"|'[^']*')", packet)
        parts = [f"<rdf:Description rdf:about={about[1]}" if about else '<rdf:Description rdf:about=""']
        parts.append(f'xmlns:lowlight="{_NAMESPACE}" lowlight:Provenance="{escape(text)}"')
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
        return xmp  # UTF-16 is allowed but very rare: left unchanged
