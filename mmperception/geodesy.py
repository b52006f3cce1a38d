# SPDX-License-Identifier: Apache-2.0
"""
Places on Earth: local east-north-up around a datum, and GeoJSON.

Local coordinates are PROJ's `topocentric` conversion of WGS84 (EPSG methods 9836 and 9837),
exact on the ellipsoid, never a map projection: no zone edges, no convergence. GeoJSON follows
RFC 7946: WGS84, longitude first.
"""

import numpy as np
from pyproj import Transformer


class LocalEnu:
    """
    The tangent frame (x east, y north, z up; metres) at a datum on the WGS84 ellipsoid.

    A datum altitude that is not known (NaN is legal in NavSatFix) counts as 0.
    """

    def __init__(self, latitude_deg, longitude_deg, altitude_m):
        self._altitude_m = float(altitude_m) if np.isfinite(altitude_m) else 0.0
        self._pipeline = Transformer.from_pipeline(
            '+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad '
            '+step +proj=cart +ellps=WGS84 +step +proj=topocentric +ellps=WGS84 '
            f'+lat_0={float(latitude_deg)!r} +lon_0={float(longitude_deg)!r} '
            f'+h_0={self._altitude_m!r}'
        )

    def enu_from_geodetic(self, latitude_deg, longitude_deg, altitude_m):
        """
        Map WGS84 places to the local frame.

        Parameters
        ----------
        latitude_deg, longitude_deg, altitude_m : (N,) or float
            Altitude above the ellipsoid; one that is not finite counts as the datum's.

        Returns
        -------
        points : (N, 3) float64
            East, north, up.

        """
        columns = np.atleast_1d(latitude_deg, longitude_deg, altitude_m)
        latitude, longitude, altitude = (np.asarray(c, np.float64) for c in columns)
        altitude = np.where(np.isfinite(altitude), altitude, self._altitude_m)
        return self._transform(longitude, latitude, altitude)

    def geodetic_from_enu(self, points):
        """
        Map local points (N, 3) back to WGS84.

        Returns
        -------
        latitude_deg, longitude_deg, altitude_m : (N,) float64

        """
        columns = np.asarray(points, np.float64).reshape(-1, 3).T
        longitude, latitude, altitude = self._transform(*columns, direction='INVERSE').T
        return latitude, longitude, altitude

    def _transform(self, *columns, direction='FORWARD'):
        # As lists: pyproj takes an array of one element for a number, which NumPy deprecates.
        lists = (column.tolist() for column in columns)
        return np.stack(self._pipeline.transform(*lists, direction=direction), axis=1)


def geojson(features):
    """
    Build a GeoJSON FeatureCollection of points.

    Parameters
    ----------
    features : iterable of (latitude_deg, longitude_deg, altitude_m or None, properties)
        An altitude that is None or not finite is left out, as RFC 7946 allows.

    Returns
    -------
    collection : dict
        Ready for `json.dump`; coordinates are longitude, latitude, altitude.

    """
    return {
        'type': 'FeatureCollection',
        'features': [
            {
                'type': 'Feature',
                'geometry': {'type': 'Point', 'coordinates': _coordinates(*place)},
                'properties': dict(properties),
            }
            for *place, properties in features
        ],
    }


def _coordinates(latitude_deg, longitude_deg, altitude_m):
    # Nine decimals of a degree are a tenth of a millimetre.
    coordinates = [round(float(longitude_deg), 9), round(float(latitude_deg), 9)]
    if altitude_m is not None and np.isfinite(altitude_m):
        coordinates.append(round(float(altitude_m), 3))
    return coordinates
