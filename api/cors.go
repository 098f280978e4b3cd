package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// preflightMaxAge is for how many seconds a browser remembers what a page may send.
const preflightMaxAge = "600"

// cors tells browsers that pages of allowed origins may read the answer, refusals included, and answers their
// preflight requests (https://fetch.spec.whatwg.org/#http-cors-protocol). Whether a request is answered at all is not
// decided here: originAllowed is asked before anything is.
func (s *Server) cors(c *gin.Context) {
	r := c.Request
	origin := r.Header.Get("Origin")
	if origin == "" {
		c.Next()
		return
	}
	header := c.Writer.Header()
	header.Add("Vary", "Origin")
	allowed := originAllowed(r, s.origins)
	if allowed {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Expose-Headers", "ETag, Reelay-Cursor, Retry-After, WWW-Authenticate")
		if s.cookie != "" {
			header.Set("Access-Control-Allow-Credentials", "true")
		}
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		c.Next()
		return
	}
	if !allowed {
		s.deny(c, byPage, errOrigin)
		return
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST")
	header.Set("Access-Control-Allow-Headers", "Authorization, Cache-Control, If-None-Match, Last-Event-ID")
	header.Set("Access-Control-Max-Age", preflightMaxAge)
	c.AbortWithStatus(http.StatusNoContent)
}
